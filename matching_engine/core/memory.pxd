cimport cython
from matching_engine.names cimport Answers, Names
from matching_engine.structs cimport Resting as CResting

@cython.final
cdef class Party:
    cdef public object account, limits, dead_man
    cdef public Answers answered
    cdef public list orders
    cdef public Py_ssize_t live
    cdef public bint killed, bound, sorted

    cpdef list in_order(self)

@cython.final
cdef class Memory:
    cdef public dict parties, returned, _forget
    cdef public Names names
    cdef public list _minutes
    cdef public long long due

    cpdef Party party(self, object account)
    cpdef object return_lease(self, object fill, object end)
    cpdef bint came_back(self, object fill, long long now)
    cpdef object fill(self, list keys, list answers)
    @cython.locals(order=CResting, party=Party, number=Py_ssize_t)
    cpdef object fill_placed(self, list orders, list parties, list known_until)
    cpdef object fill_returned(self, object returns)
    @cython.locals(emptied=list, minutes=list, leases=list, party=Party, left=Py_ssize_t)
    cpdef object forget_before(self, long long now)
