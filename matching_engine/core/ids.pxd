cdef struct Place:
    long long order_id
    void *order  # owned; NULL: nobody is here

cdef class ById:
    cdef Place *places
    cdef int shift
    cdef size_t mask, count

    cdef Place *home(self, long long order_id) noexcept
    cpdef object expect(self, size_t count)
    cdef Place *find(self, long long order_id) noexcept
    cpdef object get(self, object order_id)
    cdef int put(self, object order_id, object order) except -1
    cpdef object put_all(self, list ids, list orders)
    cdef int drop(self, object order_id) except -1
    cpdef object pop(self, object order_id, object default=*)
    cdef int grow(self) except -1
