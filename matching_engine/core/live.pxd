cimport cython
from matching_engine.ids cimport ById
from matching_engine.memory cimport Memory, Party
from matching_engine.search cimport bisect_left, cx_empty, cx_read, cx_value
from matching_engine.structs cimport Resting as CResting

@cython.final
cdef class LiveOrders:
    cdef public Memory memory
    cdef public ById orders, spent
    cdef public dict _leaving
    cdef public long long due, _leaves
    cdef public list _leavers, _times, _dead_men
    cdef public Py_ssize_t _left

    cpdef object find(self, object order_id)
    @cython.locals(leaves=cython.longlong, leavers=list)
    cpdef object keep(self, CResting order, Party party)
    cdef list _leaving_at(self, object leaves)
    cpdef object keep_amended(self, CResting order)
    @cython.locals(order=CResting, orders=ById, parties=dict, party=Party)
    cpdef object drop(self, list done)
    @cython.locals(order=CResting, orders=ById, parties=dict, party=Party)
    cpdef object forget(self, list gone)
    cpdef object set_aside(self, CResting ask)
    cpdef object bring_back(self, CResting ask)
    cpdef object begin(self, Py_ssize_t count)
    @cython.locals(order=CResting, ids=list, leavers=list, party=Party, number=Py_ssize_t, place=Py_ssize_t)
    cpdef object fill(self, list orders, list parties, list by_id, list leaves)
    @cython.locals(party=Party)
    cpdef object filled(self)
    cpdef list of(self, object account)
    cpdef object set_dead_man(self, object account, object until)
    cpdef list dead_men_before(self, object now)
    cpdef list leavers_before(self, object now)
    cdef object _tidy(self, Party party)
    cdef object _sort_by_leaving(self)
    cdef object _next_due(self)
# ints LiveOrders.keep: order.leaves
# as LiveOrders.keep: self.spent[order_id] = order => self.spent.put(order_id, order)
# as LiveOrders.keep: self.orders[order_id] = order => self.orders.put(order_id, order)
# as LiveOrders.drop: del orders[order.id] => orders.drop(order.id)
# as LiveOrders.drop: self.spent[order.id] = order => self.spent.put(order.id, order)
# as LiveOrders._tidy: known in orders or known in spent => orders.get(known) is not None or spent.get(known) is not None
# as LiveOrders.drop: done.clear() => cx_empty(done)
