cpdef bint is_name(object text)
