cimport cython

cdef class Memory:
    cdef public dict answered, returned, forget
    cdef public list _minutes
    cdef public long long due

    @cython.locals(keys=list)
    cpdef object remember(self, key, long long last_ms)
    cpdef object fill(self, list repeats, object returns)
    @cython.locals(minutes=list, returned=dict, answered=dict, first=tuple)
    cpdef object forget_before(self, long long now)
