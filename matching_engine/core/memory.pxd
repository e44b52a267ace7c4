cimport cython

cdef class Memory:
    cdef public dict answered, returned, forget
    cdef public list _minutes
    cdef public long long due

    @cython.locals(keys=list)
    cpdef object remember(self, key, long long last_ms)
    @cython.locals(minutes=list, returned=dict, answered=dict, first=tuple)
    cpdef object forget_before(self, long long now)
