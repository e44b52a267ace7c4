cimport cython
from matching_engine.asks cimport cut, is_spent, least_sold, measure, recall, reduce, sold_throughout, take
from matching_engine.book cimport Book, Known, Queue
from matching_engine.checks cimport is_name
from matching_engine.live cimport LiveOrders, Party
from matching_engine.matching cimport Walk, fit
from matching_engine.memory cimport Memory
from matching_engine.structs cimport (
    Ask as CAsk, Bid as CBid, Cancel as CCancel, PlaceAsk as CPlaceAsk, PlaceBid as CPlaceBid, Resting as CResting,
    ClassSpec as CClassSpec
)

cdef class Engine:
    cdef public object position, now, rules, _base
    cdef public dict books
    cdef public LiveOrders _live
    cdef public dict _orders
    cdef public set _bound
    cdef public Memory _memory
    cdef public object _untold
    cdef public Known _known
    cdef public dict _does

    @cython.locals(events=list)
    cpdef object apply(self, object offset, object time, object command)
    @cython.locals(book=Book, spec=CClassSpec, times=tuple, stated=tuple, ask=CAsk, bid_keys=list)
    cpdef object _place_ask(self, object this, CPlaceAsk command, list events)
    @cython.locals(book=Book, spec=CClassSpec, times=tuple, accepted=tuple, bid=CBid, ask_keys=list, starts=tuple)
    cpdef object _place_bid(self, object this, CPlaceBid command, list events)
    @cython.locals(order=CResting)
    cpdef object _cancel(self, object this, CCancel command, list events)
    cdef object _cancel_order(self, CResting order, list events)
    @cython.locals(memory=Memory, keys=list, first=tuple)
    cdef bint _first_time(self, object this, object command, object account, object client_order_id, object not_after, list events) except -1
    cdef CAsk _new_ask(self, object order_id, object place, Book book, CPlaceAsk command, tuple times, tuple stated)
    cdef CBid _new_bid(self, object order_id, object place, Book book, CPlaceBid command, tuple times, tuple accepted)
    @cython.locals(walk=Walk)
    cdef object _walk(self, object order, list events, bint fok=*)
    @cython.locals(party=Party)
    cdef object _remove(self, CResting order)
