cimport cython
from matching_engine.structs cimport Resting as CResting

cdef class Memory:
    cdef public dict answered, returned, forget
    cdef public list _minutes
    cdef public long long due

    @cython.locals(keys=list)
    cpdef object remember(self, key, long long last_ms)
    cpdef object fill(self, list keys, list answers)
    @cython.locals(order=CResting, answered=dict)
    cpdef object fill_placed(self, list orders, list known_until)
    cpdef object fill_returned(self, object returns)
    @cython.locals(minutes=list, returned=dict, answered=dict, first=tuple)
    cpdef object forget_before(self, long long now)
