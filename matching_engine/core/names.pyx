# What `names.py` does, for the compiled core. An account's names are in a table of slots, open addressing with linear
# probing. What is known of each is a record, with the letters of the name; records lie in the order in which they are
# forgotten, minute by minute: so that nothing is looked for in memory but one slot.

cimport cython
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.string cimport memcmp, memcpy
from matching_engine.search cimport cx_value

from heapq import heappop, heappush

cdef extern from *:
    """
    // Of words of 8 letters, each multiplied into it with a secret: who does not know the secret cannot choose names that
    // meet in a slot.
    static unsigned long long cx_secrets[2];

    static CYTHON_INLINE unsigned long long cx_mixed(unsigned long long one, unsigned long long other) {
        unsigned __int128 product = (unsigned __int128)one * other;
        return (unsigned long long)product ^ (unsigned long long)(product >> 64);
    }

    static CYTHON_INLINE unsigned long long cx_hashed(const char *letters, Py_ssize_t size) {
        unsigned long long hashed = cx_secrets[0] ^ (unsigned long long)size, some;
        while (size >= 8) {
            memcpy(&some, letters, 8);
            hashed = cx_mixed(hashed ^ some, cx_secrets[1]);
            letters += 8;
            size -= 8;
        }
        some = 0;
        memcpy(&some, letters, size);
        return cx_mixed(hashed ^ some, cx_secrets[1]);
    }
    """
    hash_t cx_secrets[2]
    hash_t cx_hashed(const char *letters, Py_ssize_t size) noexcept

# As Python's own hashes, other ones in each process.
cx_secrets[0] = <hash_t><long long>hash("letters")
cx_secrets[1] = <hash_t><long long>hash("secrets") | 1

NEVER = 1 << 62
cdef enum:
    GRID = 60000
    FIRST_SLOTS = 8
    FIRST_BLOCK = 512
    LAST_BLOCK = 65536


@cython.final
cdef class Minute:
    def __dealloc__(self):
        cdef Block *block = self.first
        while block != NULL:
            self.first = block.following
            PyMem_RawFree(block)
            block = self.first

    cdef Record *make(self, Py_ssize_t size) except NULL:
        cdef size_t length = (sizeof(Record) + size) & ~<size_t>7
        cdef Block *block = self.last
        cdef size_t most
        if block == NULL or block.size - block.used < length:
            most = FIRST_BLOCK if block == NULL else min(2 * block.size, <size_t>LAST_BLOCK)
            most = max(most, length)
            block = <Block *>PyMem_RawMalloc(sizeof(Block) + most)
            if block == NULL:
                raise MemoryError
            block.following, block.size, block.used = NULL, most, 0
            if self.last == NULL:
                self.first = block
            else:
                self.last.following = block
            self.last = block
        cdef Record *record = <Record *>(<char *>(block + 1) + block.used)
        block.used += length
        record.size = size
        return record

    cdef Record *next(self) noexcept:
        """The next one in order, NULL where there is none. Valid until this is called again."""
        cdef Block *block = self.first
        cdef Record *record
        while block != NULL and self.read == block.used:
            self.first, self.read = block.following, 0
            PyMem_RawFree(block)
            block = self.first
        if block == NULL:
            self.last = NULL
            return NULL
        record = <Record *>(<char *>(block + 1) + self.read)
        self.read += (sizeof(Record) + record.size) & ~<size_t>7
        return record


@cython.final
cdef class Answers:
    def __cinit__(self, object account, Names names):
        self.account = account
        self.names = names  # in whose memory the records are
        self.slots = <Slot *>PyMem_RawCalloc(FIRST_SLOTS, sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError
        self.mask = FIRST_SLOTS - 1

    def __dealloc__(self):
        PyMem_RawFree(self.slots)

    def __len__(self):
        return self.count

    cdef Slot *find(self, hash_t hashed, const char *name, Py_ssize_t size) noexcept:
        """The name's slot, or the empty one where it would be."""
        cdef size_t at = hashed & self.mask
        cdef Slot *slot = self.slots + at
        while slot.record != NULL:
            if slot.hashed == hashed and slot.record.size == size and not memcmp(slot.record.name, name, size):
                break
            at = (at + 1) & self.mask
            slot = self.slots + at
        return slot

    cdef void drop(self, Record *record) noexcept:
        """Those behind it that would not be found any more move up."""
        cdef Slot *slots = self.slots
        cdef size_t mask = self.mask, at = record.hashed & mask, hole
        while slots[at].record != record:
            at = (at + 1) & mask
        hole = at
        while True:
            at = (at + 1) & mask
            if slots[at].record == NULL:
                break
            if ((at - slots[at].hashed) & mask) >= ((at - hole) & mask):
                slots[hole] = slots[at]
                hole = at
        slots[hole].record = NULL
        self.count -= 1

    cdef int grow(self) except -1:
        cdef size_t mask = 2 * self.mask + 1, at, place
        cdef Slot *slots = <Slot *>PyMem_RawCalloc(mask + 1, sizeof(Slot))
        if slots == NULL:
            raise MemoryError
        for at in range(self.mask + 1):
            if self.slots[at].record != NULL:
                place = self.slots[at].hashed & mask
                while slots[place].record != NULL:
                    place = (place + 1) & mask
                slots[place] = self.slots[at]
        PyMem_RawFree(self.slots)
        self.slots, self.mask = slots, mask
        return 0

    cpdef list counting(self, long long now):
        cdef Record *record
        cdef size_t at
        counting = []
        for at in range(self.mask + 1):
            record = self.slots[at].record
            if record != NULL and record.not_after >= now:
                counting.append((record.name[: record.size].decode(), record.position, record.not_after))
        return counting


@cython.final
cdef class Names:
    def __cinit__(self):
        self.due = NEVER
        self._forget = {}
        self._minute = -1
        self._minutes = []

    cpdef Answers of(self, object account):
        return Answers(account, self)

    cpdef object first(self, Answers answers, str name, object position, object not_after, long long now):
        cdef Py_ssize_t size
        cdef const char *letters = PyUnicode_AsUTF8AndSize(name, &size)
        cdef hash_t hashed = cx_hashed(letters, size)
        cdef Slot *slot = answers.find(hashed, letters, size)
        cdef long long until = cx_value(not_after), minute = until // GRID
        if slot.record != NULL and now <= slot.record.not_after:
            return slot.record.position
        cdef Minute there = self._there if minute == self._minute else self._after(minute)
        cdef Record *record = there.make(size)
        record.answers, record.hashed, record.not_after = <void *>answers, hashed, until
        record.position = cx_value(position)
        memcpy(record.name, letters, size)
        if slot.record != NULL:
            slot.record.answers = NULL
            slot.record = record
        else:
            slot.hashed, slot.record = hashed, record
            answers.count += 1
            if 2 * answers.count > answers.mask:
                answers.grow()
        return position

    cpdef long long forget_before(self, long long now, long long most, list emptied) except -1:
        cdef Record *record
        cdef Answers answers
        cdef Minute minute
        minutes = self._minutes
        while most and minutes and (minutes[0] + 1) * GRID <= now:
            minute = self._forget[minutes[0]]
            record = NULL
            while most:
                record = minute.next()
                if record == NULL:
                    del self._forget[heappop(minutes)]
                    break
                most -= 1
                if record.answers != NULL:
                    answers = <Answers>record.answers
                    answers.drop(record)
                    if not answers.count:
                        emptied.append(answers.account)
        self._minute = -1
        self.due = (minutes[0] + 1) * GRID if minutes else NEVER
        return most

    cdef Minute _after(self, long long minute):
        there = self._forget.get(minute)
        if there is None:
            there = self._forget[minute] = Minute()
            heappush(self._minutes, minute)
            self.due = min(self.due, (minute + 1) * GRID)
        self._minute, self._there = minute, there
        return there
