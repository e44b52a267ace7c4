cimport cython
from matching_engine.asks cimport is_spent, measure, needed, take
from matching_engine.book cimport AskBounds, AskChunk, AskGroup, BidChunk, Book, Queue, Stairs, some_suit, suits_supplier
from matching_engine.calendar cimport Calendar, origin_of, ring
from matching_engine.search cimport bisect_left, bisect_right, cx_meet, cx_read, cx_value, hours_of, shows
from matching_engine.structs cimport Resting as CResting, Accepts as CAccepts, Ask as CAsk, Bid as CBid, ClassSpec as CClassSpec

cdef object ASK, BID, PRICE
cdef Py_ssize_t MAX_REPAIRS

cdef class Walk:
    cdef public Book book
    cdef public long long now
    cdef public list events, done
    cdef public bint full, _plainly
    cdef public bint _resuming
    cdef public Py_ssize_t _repairs, _most
    cdef public long long _first_number

    cdef object begin(self, Book book, long long now, list events)
    cpdef object meet_asks(self, CBid bid)
    @cython.locals(short=list, cuts=Py_ssize_t, bid=CBid, before=cython.longlong, most=Py_ssize_t, free=cython.longlong, events=list, calendar=Calendar, owner=cython.longlong, start=cython.longlong, end=cython.longlong)
    cpdef object meet_bids(self, CAsk ask)
    @cython.locals(bid=CBid)
    cpdef object meet_all_bids(self)
    cpdef object fill_or_kill(self, CBid bid)
    @cython.locals(book=Book, spec=CClassSpec, begins=object, ends=object, end=cython.longlong, bid_takes=cython.bint, left=cython.longlong, number=cython.longlong, chunk=BidChunk)
    cpdef object fill(self, CAsk ask, CBid bid, long long start, long long quantity)
    cdef object _to_come(self, CBid bid)
    @cython.locals(events=list, most=Py_ssize_t, min_fill=cython.longlong, left=cython.longlong, before=cython.longlong, ask=CAsk, free=cython.longlong, owner=cython.longlong)
    cdef bint _pass(self, CBid bid, object starts) except -1
    @cython.locals(accepts=CAccepts, queue=Queue, events=list, most=Py_ssize_t, owner=cython.longlong, price=cython.longlong, refuses=cython.longlong, min_fill=cython.longlong, left=cython.longlong, duration=cython.longlong, need=cython.longlong, end=cython.longlong, chunk=AskChunk, orders=list, at=Py_ssize_t, ask=CAsk, free=cython.longlong)
    cdef object _pass_usual(self, CBid bid, long long start)
    @cython.locals(accepts=CAccepts, queue=Queue, events=list, most=Py_ssize_t, owner=cython.longlong, price=cython.longlong, start=cython.longlong, end=cython.longlong, signature=cython.longlong, free=cython.longlong, duration=cython.longlong, chunk=BidChunk, orders=list, at=Py_ssize_t, bid=CBid, left=cython.longlong, min_fill=cython.longlong, starts=tuple, quantity=cython.longlong)
    cdef bint _meet_usual_bids(self, CAsk ask) except -1
    @cython.locals(quantity=cython.longlong)
    cdef bint _trade_once(self, CAsk ask, CBid bid, object starts, object walker) except -1
    cdef object _self_trade(self, CAsk ask, CBid bid)
    cdef object _cancel(self, object order, object reason)
    cdef object _end(self, CResting order)
    cdef object _plan(self, CBid bid, object start)

@cython.locals(likely=list, ask=CAsk, calendar=Calendar, runs=list, there=cython.bint)
cdef list _likely(AskChunk chunk, long long refuses, long long first_end, long long last, long long duration, Py_ssize_t double, object at, long long gap, long long origin)
@cython.locals(lot=cython.longlong, first=cython.longlong, last=cython.longlong, most=cython.longlong, calendar=Calendar, times=list, pieces=list, piece=Py_ssize_t, sold=cython.longlong, more=cython.longlong, start=cython.longlong)
cpdef tuple fit(CAsk ask, object starts, long long duration, long long wanted, long long need)
cdef long long _cut(long long unsold, long long wanted, long long lot) except -1
# locals Walk._asks_for: ask=CAsk, bid=CBid, price=cython.longlong, duration=cython.longlong, refuses=cython.longlong, accepts=CAccepts, first=cython.longlong, last=cython.longlong, first_end=cython.longlong, rings_made=Py_ssize_t, double=Py_ssize_t, gap=cython.longlong, origin=cython.longlong, hour=cython.longlong, signatures=cython.longlong, suits=cython.bint, chunks=list, group=AskGroup, place=Py_ssize_t, chunk=AskChunk, bounds=AskBounds, need=cython.longlong, choosy=cython.bint
# locals Walk._bids_for: ask=CAsk, bid=CBid, price=cython.longlong, start=cython.longlong, end=cython.longlong, signature=cython.longlong, min_duration=cython.longlong, longest=cython.longlong, chunks=list, chunk=BidChunk, calendar=Calendar, duration=cython.longlong, accepts=CAccepts
# ints _likely: ask.signature ask.longest ask.start ask.end
# ints Walk._asks_for: ask.free ask.min_duration ask.price
# ints Walk._bids_for: bid.duration bid.refuses bid.min_fill ask.free bid.left bid.price
# ints Walk.meet_bids: bid.duration bid.owner bid.left bid.min_fill ask.free
# ints Walk._pass: ask.lot ask.owner ask.free bid.left
# ints Walk.begin: MAX_WALK
# ints Walk.fill: bid.duration ask.start ask.end bid.left bid.place ask.place ask.free ask.lot
# ints fit: ask.lot ask.start ask.end ask.free ask.quantity pieces[piece]
# ints Walk._trade_once: bid.duration bid.left ask.owner bid.owner
# made: Cancelled Fill
# ints Walk._pass_usual: bid.owner bid.price bid.refuses bid.min_fill bid.left bid.duration ask.price ask.free ask.start ask.end ask.signature ask.min_duration ask.lot ask.owner
# ints Walk._meet_usual_bids: ask.lot ask.owner ask.price ask.start ask.end ask.signature ask.free bid.price bid.left bid.min_fill bid.duration bid.refuses starts[0] bid.owner
# locals Walk.__init__: book=Book, events=list
# meets Walk._asks_for: run & at
# meets _likely: run & at
# lent Walk.fill: spec.class_id bid.id ask.id bid.account ask.account bid.fee_bps ask.fee_bps ask.attributes
