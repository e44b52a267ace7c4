cimport cython
from matching_engine.search cimport bisect_left
from matching_engine.structs cimport Resting as CResting

cdef class Party:
    cdef public list orders
    cdef public Py_ssize_t most, live
    cdef public bint killed
    cdef public object limits
    cdef public object dead_man

cdef class LiveOrders:
    cdef public dict orders, parties, _leaving
    cdef public set bound
    cdef public long long due
    cdef public list _times, _dead_men
    cdef public Py_ssize_t _left

    @cython.locals(party=Party, leavers=list)
    cpdef object keep(self, CResting order)
    cpdef object keep_amended(self, CResting order)
    @cython.locals(order=CResting, orders=dict, parties=dict, party=Party)
    cpdef object drop(self, object done)
    @cython.locals(order=CResting, ids=list, leavers=list, party=Party, number=Py_ssize_t)
    cpdef object fill(self, list orders, list by_id)
    @cython.locals(party=Party)
    cpdef object filled(self)
    cpdef Party party(self, object account)
    cpdef list of(self, object account)
    cpdef object mark_bound(self, object account, Party party)
    cpdef object set_dead_man(self, object account, object until)
    cpdef list dead_men_before(self, object now)
    cpdef list leavers_before(self, object now)
    cdef object _tidy(self, Party party)
    cdef object _sort_by_leaving(self)
    cdef object _next_due(self)
