cpdef bint is_account(object number)
cpdef bint is_name(object text)
