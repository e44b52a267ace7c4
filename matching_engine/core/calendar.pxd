cimport cython
from matching_engine.search cimport bisect_left, bisect_right, cx_value

cdef class Calendar:
    cdef object _start, _end, _most, _first
    cdef public list times, sold, runs
    cdef public dict rings
    cdef public bint stale

    @cython.locals(starts=object)
    cpdef bint opens(self, object hours)
    cpdef object ring(self, object double)
    cpdef object reach(self, object last)
    cdef object _run(self, Py_ssize_t double)
    @cython.locals(times=list, first=Py_ssize_t, after=Py_ssize_t)
    cpdef long long most(self, long long start, long long end)
    @cython.locals(first=Py_ssize_t)
    cpdef long long least(self, long long start, long long end)
    @cython.locals(piece=Py_ssize_t, first=Py_ssize_t, after=Py_ssize_t)
    cpdef object add(self, long long start, long long end, long long quantity)
    @cython.locals(times=list, sold=list, first=Py_ssize_t, longest=cython.longlong, begin=cython.longlong, piece=Py_ssize_t)
    cpdef long long longest(self, long long start, long long end, long long most)
    @cython.locals(past=Py_ssize_t)
    cpdef object trim(self, long long now)
    @cython.locals(times=list, sold=list, most=cython.longlong, piece=Py_ssize_t, after=Py_ssize_t, begin=object)
    cdef object _reopen(self, object start, object end)
    @cython.locals(piece=Py_ssize_t)
    cdef Py_ssize_t _cut(self, long long time)
    cdef object _join(self, Py_ssize_t piece)

cpdef object hours_of(object starts, object duration)
cpdef object whole_ring(object start, object end, object double)

cpdef tuple looks_of(object hours)
cpdef bint shows(object ring, tuple looks)
# ints Calendar.longest: sold[piece] times[piece]
# ints Calendar._reopen: sold[piece]
# ints Calendar._cut: self.times[piece]
