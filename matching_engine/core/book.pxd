cimport cython
from matching_engine.fetch cimport foresee_orders, numbers
from matching_engine.asks cimport is_spent, measure, needed, ring_of
from matching_engine.calendar cimport Calendar, whole_ring
from matching_engine.search cimport bisect_left, bisect_right, cx_read, cx_value, hours_of, well_timed
from matching_engine.structs cimport Ask as CAsk, Attributes as CAttributes, Bid as CBid, Resting as CResting

cdef class Chunk:
    cdef public list ranks, orders
    cdef public long long first_rank
    cdef public Py_ssize_t first, live, lost, gone, stale
    cdef public object front

    @cython.locals(orders=list, first=Py_ssize_t, ahead=CResting)
    cpdef object lose(self, CResting order)
    @cython.locals(order=CResting, place=Py_ssize_t, staying=Py_ssize_t, there=list, ranks=list)
    cpdef object sift(self)
    cpdef object measure(self)
    cpdef object widen(self, order)
    cpdef object follow(self, before)
    cpdef object leave(self)

@cython.final
cdef class Stairs:
    cdef public list starts, ends

    @cython.locals(starts=list, ends=list, step=Py_ssize_t, higher=Py_ssize_t)
    cpdef bint take_in(self, long long start, long long end)
    @cython.locals(starts=list, ends=list, highest=cython.longlong)
    cpdef object take_in_all(self, list times)
    @cython.locals(step=Py_ssize_t, at=Py_ssize_t, start=cython.longlong, first=cython.longlong)
    cpdef bint spans(self, object starts, long long duration)

@cython.final
cdef class AskBounds:
    cdef public long long signatures, free, longest
    cdef public Stairs stairs

    @cython.locals(wider=cython.bint)
    cpdef bint take_in(self, long long signatures, long long free, long long longest)
    cpdef object take_in_all(self, AskBounds others)

@cython.final
cdef class AskGroup:
    cdef public list chunks
    cdef public AskBounds bounds
    cdef public Py_ssize_t measured

    @cython.locals(chunk=AskChunk)
    cpdef object measure(self)
    cpdef object add(self, AskChunk chunk, AskChunk before)

cdef class AskChunk(Chunk):
    cdef public AskBounds bounds
    cdef public bint cut
    cdef public AskGroup group
    cdef public long long origin
    cdef public list rings
    cdef public Stairs whole

    @cython.locals(ask=CAsk, calendar=Calendar, bounds=AskBounds, group=AskGroup, signatures=cython.longlong, free=cython.longlong, longest=cython.longlong)
    cpdef object measure(self)
    @cython.locals(ask=CAsk, bounds=AskBounds, stairs=Stairs, longer=cython.bint, is_cut=cython.bint, stands=cython.bint, start=cython.longlong, end=cython.longlong)
    cpdef object widen(self, order)
    cpdef object _add_to_rings(self, CAsk ask, bint as_whole)
    @cython.locals(ask=CAsk, calendar=Calendar)
    cpdef object ring(self, Py_ssize_t double, long long origin)
    cpdef object follow(self, before)

cdef class BidChunk(Chunk):
    cdef public long long first_end, last_start, need, refuses, shortest, seen_duration
    cdef public tuple seen_starts
    cdef public list lengths, by_length

    @cython.locals(bid=CBid)
    cpdef object measure(self)
    @cython.locals(bid=CBid, duration=cython.longlong, first=cython.longlong, last=cython.longlong, starts=tuple, refuses=cython.longlong)
    cpdef object widen(self, order)
    cpdef object sift(self)
    @cython.locals(bid=CBid, before=CBid, bids=list, few=Py_ssize_t, at=Py_ssize_t, price=cython.longlong, place=cython.longlong)
    cpdef list short(self, long long longest, long long signature)

@cython.final
cdef class Queue:
    cdef public object _kind
    cdef public long long _sign
    cdef public list chunks
    cdef public object first_ranks

    cpdef list within(self, long long price)
    @cython.locals(chunk=Chunk, front=CResting)
    cpdef bint has_within(self, long long price)
    @cython.locals(chunk=Chunk, at=Py_ssize_t, place=Py_ssize_t, ranks=list, orders=list, rank=cython.longlong, before=CResting)
    cpdef object add(self, CResting order)
    @cython.locals(chunk=Chunk, place=Py_ssize_t, ranks=list, orders=list)
    cdef object _bring_back(self, CResting order, long long rank, Py_ssize_t at)
    @cython.locals(chunk=Chunk)
    cdef object _have(self, CResting order, Py_ssize_t place, Py_ssize_t at)
    @cython.locals(order=CResting, there=list, ranks=list)
    cpdef object fill(self, list orders)
    cpdef object drop(self, Chunk chunk)
    cpdef object drop_empty(self)
    @cython.locals(chunk=Chunk, half=Py_ssize_t)
    cdef object _split(self, Py_ssize_t at)

@cython.final
cdef class Book:
    cdef public object spec, halt
    cdef public str class_id
    cdef public long long fills, reference
    cdef public bint retired, closed
    cdef public Queue ask_queue, bid_queue
    cdef public dict spent

    cpdef object close(self, object halt, bint retired)
    cpdef list asks(self)
    cpdef list bids(self)
    cpdef tuple band(self)
    cpdef object add(self, order)
    @cython.locals(ask=CAsk)
    cpdef object fill_asks(self, list asks)
    @cython.locals(chunk=Chunk)
    cpdef object remove(self, CResting order)
    cpdef object remove_all(self, object orders)
    cpdef object set_aside(self, CAsk ask)

@cython.final
cdef class Known:
    cdef public object stated, accepted, offered, wanted, prices

    @cython.locals(times=tuple)
    cpdef tuple times(self, tuple starts, object duration)

@cython.locals(starts=tuple)
cpdef tuple _wanted(tuple times)

@cython.locals(suitable=cython.longlong, regions=cython.longlong, deliveries=cython.longlong, interconnects=cython.longlong, confidential=cython.longlong, tiers=cython.longlong)
cpdef bint some_suit(long long signatures, long long refuses)
cpdef bint suits_supplier(object accepts, object supplier)
# ints Stairs.take_in: ends[step - 1] starts[step - 1] ends[higher]
# ints Stairs.spans: self.ends[step - 1] starts[at] self.ends[step]
# ints AskChunk.widen: ask.signature ask.free ask.longest ask.start ask.end stairs.starts[0] stairs.ends[0]
# ints AskChunk.measure: ask.signature ask.free ask.longest
# ints BidChunk.short: bid.refuses bid.duration bid.price bid.place before.price before.place
# ints BidChunk.widen: bid.refuses bid.min_fill bid.left
# ints Queue._have: CHUNK
# ints Queue.has_within: front.price
# as Queue.add: ranks[place - 1] == rank => cx_value(ranks[place - 1]) == rank
# ints Queue.add: order.price before.price before.place order.place
# ints Queue._bring_back: ranks[place]
# locals Chunk.__init__: order=CResting, orders=list
