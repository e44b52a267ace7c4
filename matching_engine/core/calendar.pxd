cimport cython
from matching_engine.search cimport bisect_left, bisect_right, cx_value, opens, span, twice

@cython.final
cdef class Calendar:
    cdef long long _start, _end, _most
    cdef public long long first, origin
    cdef public list times, sold, runs
    cdef public bint stale

    @cython.locals(first=cython.longlong, double=Py_ssize_t, gap=cython.longlong)
    cpdef bint opens(self, tuple hours)
    @cython.locals(runs=list)
    cpdef object ring(self, Py_ssize_t double, long long origin)
    cpdef object reach(self, object last)
    @cython.locals(runs=list, known=Py_ssize_t)
    cdef object _run(self, Py_ssize_t double)
    @cython.locals(times=list, first=Py_ssize_t, after=Py_ssize_t)
    cpdef long long most(self, long long start, long long end)
    @cython.locals(first=Py_ssize_t)
    cpdef long long least(self, long long start, long long end)
    @cython.locals(piece=Py_ssize_t, first=Py_ssize_t, after=Py_ssize_t, sold=list, most=cython.longlong, before=cython.longlong, then=cython.longlong, changes=cython.bint)
    cpdef object add(self, long long start, long long end, long long quantity)
    @cython.locals(times=list, sold=list, first=Py_ssize_t, longest=cython.longlong, begin=cython.longlong, piece=Py_ssize_t)
    cpdef long long longest(self, long long start, long long end, long long most)
    @cython.locals(past=Py_ssize_t)
    cpdef object trim(self, long long now)
    @cython.locals(hour=cython.longlong, times=list, sold=list, first=cython.longlong, most=cython.longlong, piece=Py_ssize_t, after=Py_ssize_t, begin=cython.longlong, last=cython.longlong)
    cdef object _reopen(self, long long start, long long end)
    @cython.locals(piece=Py_ssize_t)
    cdef Py_ssize_t _cut(self, long long time)
    cdef object _join(self, Py_ssize_t piece)

cpdef long long origin_of(long long now)
cpdef object ring(object run, long long first)
@cython.locals(first=cython.longlong, count=cython.longlong)
cpdef object whole_ring(long long start, long long end, Py_ssize_t double, long long origin)
# ints Calendar.longest: sold[piece] times[piece]
# ints Calendar._reopen: sold[piece] times[piece]
# ints Calendar._cut: self.times[piece]
