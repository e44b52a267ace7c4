cimport cython
from matching_engine.ahead cimport foresee
from matching_engine.asks cimport cut, is_spent, least_sold, measure, recall, reduce, sold_throughout, take
from matching_engine.book cimport Book, Known, Queue
from matching_engine.columns cimport spread
from matching_engine.ids cimport ById
from matching_engine.live cimport LiveOrders
from matching_engine.matching cimport Walk, fit
from matching_engine.memory cimport Memory, Party
from matching_engine.names cimport Names
from matching_engine.search cimport cx_has_0, cx_less, cx_read, cx_same_ints, cx_value, is_account, is_name, ne, taken
from matching_engine.structs cimport (
    Ask as CAsk, Bid as CBid, Cancel as CCancel, PlaceAsk as CPlaceAsk, PlaceBid as CPlaceBid, Resting as CResting,
    ClassSpec as CClassSpec
)

cdef object ASK, BID, FOK, FULL, GTC, GTD, IOC, REQUESTED
cdef long long MAX_FEE_BPS, MAX_REQUEST_ID, MAX_TIME_MS

@cython.final
cdef class Engine:
    cdef public object position, rules
    cdef public long long _base
    cdef public long long now
    cdef public dict books
    cdef public Memory _memory
    cdef public LiveOrders _live
    cdef public Names _names
    cdef public dict _parties
    cdef public ById _orders
    cdef public object _untold
    cdef public Known _known
    cdef list _events
    cdef object _stamp
    cdef Walk _walk
    cdef Book _book
    cdef public tuple _offered, _stated, _wanted, _accepted
    cdef public dict _does

    @cython.locals(events=list, now=cython.longlong, bid=CPlaceBid, ask=CPlaceAsk, cancel=CCancel, request_id=str)
    cpdef object apply(self, object offset, object time, object command)
    cpdef object expect(self, object commands)
    @cython.locals(book=Book, class_id=str, spec=CClassSpec, times=tuple, stated=tuple, ask=CAsk, party=Party, crossed=cython.bint)
    cpdef object _place_ask(self, object this, CPlaceAsk command, list events)
    @cython.locals(book=Book, class_id=str, spec=CClassSpec, times=tuple, accepted=tuple, bid=CBid, party=Party, crossed=cython.bint, starts=tuple)
    cpdef object _place_bid(self, object this, CPlaceBid command, list events)
    @cython.locals(order=CResting)
    cpdef object _cancel(self, object this, CCancel command, list events)
    @cython.locals(book=Book, bid=CBid)
    cdef object _cancel_order(self, CResting order, list events)
    cdef object _refuse_unnamed(self, object command, list events)
    @cython.locals(party=Party, known=cython.bint)
    cdef Party _first_time(self, object this, object command, object account, object client_order_id, object not_after, list events)
    cdef CAsk _new_ask(self, object order_id, object place, Book book, CPlaceAsk command, tuple times, tuple stated)
    cdef CBid _new_bid(self, object order_id, object place, Book book, CPlaceBid command, tuple times, tuple accepted)
    @cython.locals(walk=Walk)
    cdef object _meet_bids(self, CAsk ask, list events)
    @cython.locals(walk=Walk)
    cdef object _meet_asks(self, CBid bid, list events, bint fok=*)
    cdef Walk _begun(self, Book book, list events)
    @cython.locals(book=Book, party=Party)
    cdef object _remove(self, CResting order)
# made: Accepted Ask Bid Cancelled Execution Filled
# as Engine.apply: kind is PlaceBid => kind is CPlaceBid
# as Engine.apply: kind is PlaceAsk => kind is CPlaceAsk
# as Engine.apply: kind is Cancel => kind is CCancel
# as Engine._cancel_order: type(order) is Bid => type(order) is CBid
# as Engine.apply: this > prev => cx_less(prev, this)
# as Engine._place_bid: 0 not in command.starts => not cx_has_0(command.starts)
# as Engine._place_bid: starts == times[0] => cx_same_ints(starts, times[0])
# as Engine._first_time: self.now <= not_after <= MAX_TIME_MS => self.now <= cx_value(not_after) <= MAX_TIME_MS
# ints Engine._place_ask: command.start times[0] command.end times[1] command.min_duration times[2] times[4] command.price spec.max_price spec.tick command.lot command.quantity spec.max_quantity command.fee_bps command.expire_at command.display spec.band_bps ask.free ask.lot
# ints Engine._place_bid: command.duration times[1] times[2] command.price spec.max_price spec.tick command.min_fill command.quantity spec.max_quantity command.fee_bps command.expire_at spec.band_bps bid.left
# lent Engine.apply: self._stamp
# lent Engine._place_ask: ask.client_order_id command.class_id ask.quantity ask.price ask.fee_bps ask.start
# lent Engine._place_bid: bid.client_order_id command.class_id bid.quantity bid.price bid.fee_bps bid.duration
# lent Engine._cancel_order: order.id order.account
# lent Engine._new_ask: command.account command.owner command.client_order_id command.price command.self_trade command.fee_bps command.lot command.display
# lent Engine._new_bid: command.account command.owner command.client_order_id command.price command.self_trade command.fee_bps command.min_fill command.prefer
# as Engine._remove: del self._live.spent[order.id] => self._live.spent.drop(order.id)
# as Engine._remove: del self._orders[order.id] => self._orders.drop(order.id)
