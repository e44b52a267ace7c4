cimport cython
from matching_engine.calendar cimport Calendar, whole_ring
from matching_engine.search cimport bisect_right, cx_read, cx_value
from matching_engine.structs cimport Ask as CAsk, Bid as CBid

cpdef object sold_throughout(CAsk ask)
cpdef long long for_sale(CAsk ask, long long start, long long end)
@cython.locals(calendar=Calendar)
cpdef object take(CAsk ask, long long start, long long end, long long quantity)
cpdef object cut(CAsk ask)
cpdef object recall(CAsk ask, list times, list sold)
cpdef object reduce(CAsk ask, object quantity)
@cython.locals(calendar=Calendar)
cpdef object measure(CAsk ask)
@cython.locals(calendar=Calendar)
cpdef object ring_of(CAsk ask, Py_ssize_t double, long long origin)
cpdef object least_sold(CAsk ask, object start, object end)
@cython.locals(calendar=Calendar, past=Py_ssize_t)
cpdef tuple sold_from(CAsk ask, object now)
cpdef bint is_spent(CAsk ask)
cpdef long long needed(CBid bid)
# ints ring_of: ask.start ask.end
# ints for_sale: ask.start ask.end
# ints take: ask.start ask.end
# ints measure: ask.start ask.end ask.quantity ask.lot
# ints is_spent: ask.free ask.lot ask.longest ask.min_duration
# ints needed: bid.min_fill bid.left
