cimport cython
from matching_engine.search cimport cx_read, cx_value
from matching_engine.structs cimport Answer as CAnswer, Resting as CResting

@cython.final
cdef class Party:
    cdef public object account, limits, dead_man
    cdef public dict answered
    cdef public list orders
    cdef public Py_ssize_t live
    cdef public bint killed, bound

@cython.final
cdef class Memory:
    cdef public dict parties, returned, forget
    cdef public list _minutes, _keys
    cdef public long long due, _minute

    cpdef Party party(self, object account)
    @cython.locals(known=CAnswer, minute=cython.longlong, keys=list)
    cdef object first(self, CAnswer answer, Party party, object client_order_id, long long now)
    cpdef object return_lease(self, object fill, object end)
    cpdef bint came_back(self, object fill, long long now)
    cpdef object fill(self, list keys, list answers)
    @cython.locals(order=CResting)
    cpdef object fill_placed(self, list orders, list known_until)
    cpdef object fill_returned(self, object returns)
    @cython.locals(minutes=list, keys=list, known=CAnswer, party=Party, left=Py_ssize_t)
    cpdef object forget_before(self, long long now)
    cdef list _after(self, object minute)
# ints Memory.first: known.not_after answer.not_after GRID_MS
# ints Memory.forget_before: known.not_after
