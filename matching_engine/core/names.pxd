ctypedef unsigned long long hash_t

cdef struct Record:
    void *answers  # borrowed: of an account's, which is there as long as records of it are; NULL: its name was used anew
    hash_t hashed
    long long position, not_after
    Py_ssize_t size
    char name[1]

cdef struct Slot:
    hash_t hashed
    Record *record

cdef struct Block:
    Block *following
    size_t size, used

cdef class Minute:
    cdef Block *first
    cdef Block *last
    cdef size_t read

    cdef Record *make(self, Py_ssize_t size) except NULL
    cdef Record *next(self) noexcept

cdef class Answers:
    cdef readonly object account
    cdef Names names
    cdef Slot *slots
    cdef size_t mask, count

    cdef Slot *find(self, hash_t hashed, const char *name, Py_ssize_t size) noexcept
    cdef void drop(self, Record *record) noexcept
    cdef int grow(self) except -1
    cpdef list counting(self, long long now)

cdef class Names:
    cdef readonly long long due
    cdef dict _forget
    cdef long long _minute
    cdef Minute _there
    cdef readonly list _minutes

    cpdef Answers of(self, object account)
    cpdef object first(self, Answers answers, str name, object position, object not_after, long long now)
    cpdef long long forget_before(self, long long now, long long most, list emptied) except -1
    cdef Minute _after(self, long long minute)
