"""The loops of XTC files that must be compiled: from frame to frame, and from packed bits to positions.

Numba, which is optional, checks no index: `hop` and `_unpack` do so before they read and write. The format is that of
GROMACS (doi:10.1016/j.softx.2015.06.001).

A file is looked at as 64-bit words whose first byte is the file's first. Every number is read by its place alone,
counted in bits from the first word on, so that the processor is at several atoms at once.
"""

from typing import no_type_check

import numba
import numpy as np

# Sides of the cubes that short steps lie in, by the bits of a step: whole parts of the cube roots of 2**bits, but for
# three that the format has otherwise. Fewer or more bits have none.
_FEWEST, _MOST = 9, 72
_OTHERWISE = {37: 5060, 57: 524287, 69: 8388607}
# Numbers of so many bits are divided by a side as exactly by one product and a shift.
_SHORT = 31
# Of numbers of so many bits, and one half, the product with a reciprocal in float64 has the whole part of the quotient:
# the error of two roundings is less than what the half keeps it from the next whole number.
_MIDDLE = 50


def _cube_root(number: int) -> int:
    """Whole part of it."""
    root = round(number ** (1 / 3))
    return root - (root**3 > number)


_sides = [_OTHERWISE.get(bits, _cube_root(2**bits)) if bits >= _FEWEST else 0 for bits in range(_MOST + 1)]
SIDES = np.array(_sides, np.uint64)
# Reciprocals, and bits by which a product with one is too large: so many keep every quotient exact.
_shifts = [bits + bits // 3 + 1 for bits in range(_SHORT + 1)]
SHIFTS = np.array(_shifts, np.uint64)
RECIPROCALS = np.array(
    [-(-(2**shift) // side) if side else 0 for shift, side in zip(_shifts, _sides, strict=False)], np.uint64
)
_NARROW, _WIDE = np.uint64(1995), np.uint64(2023)
# Words behind the last packed one that may be looked at, though nothing is taken from them.
SPARE_WORDS = 16

_inner = numba.njit(nogil=True, error_model="numpy")
_U = np.uint64


@_inner
@no_type_check
def _swapped(word):
    """The word with its bytes in the opposite order."""
    word = ((word >> _U(8)) & _U(0x00FF00FF00FF00FF)) | ((word & _U(0x00FF00FF00FF00FF)) << _U(8))
    word = ((word >> _U(16)) & _U(0x0000FFFF0000FFFF)) | ((word & _U(0x0000FFFF0000FFFF)) << _U(16))
    return (word >> _U(32)) | (word << _U(32))


@_inner
@no_type_check
def _window(words, place):
    """The 64 bits from here on, the first on top."""
    at, shift = place >> _U(6), place & _U(63)
    return (_swapped(words[at]) << shift) | ((_swapped(words[at + _U(1)]) >> _U(1)) >> (_U(63) - shift))


@_inner
@no_type_check
def _bits(words, place, n_bits):
    """A number of 1 to 64 bits, the first on top."""
    return _window(words, place) >> (_U(64) - n_bits)


@_inner
@no_type_check
def _digits(words, place, n_bits):
    """A number of 1 to 64 bits whose bytes come with the lowest first; the last may be a part of one."""
    window = _swapped(_window(words, place))
    below = (n_bits - _U(1)) & ~_U(7)
    last = ((window >> below) & _U(255)) >> (_U(8) + below - n_bits)
    return (window & ((_U(1) << below) - _U(1))) | (last << below)


@_inner
@no_type_check
def _divided(high, low, side):
    """Quotient, as two words, and remainder of a number of two words, by hand: of the upper one a byte is in use."""
    upper = (high << _U(32)) | (low >> _U(32))
    lower = ((upper % side) << _U(32)) | (low & _U(0xFFFFFFFF))
    quotient = upper // side
    return quotient >> _U(32), (quotient << _U(32)) + lower // side, lower % side


@_inner
@no_type_check
def _triple(words, place, n_bits, second, third):
    """Three numbers from one of up to 72 bits, (a * second + b) * third + c."""
    if n_bits > _U(64):
        high = _bits(words, place + _U(64), n_bits - _U(64))
        high, low, c = _divided(high, _digits(words, place, _U(64)), third)
        _, a, b = _divided(high, low, second)
        return a, b, c
    number = _digits(words, place, n_bits)
    rest = number // third
    first = rest // second
    return first, rest - first * second, number - rest * third


@_inner
@no_type_check
def _short_triple(words, place, n_bits, side, reciprocal, shift):
    """Three numbers of one side, of up to 31 bits together."""
    number = _digits(words, place, n_bits)
    rest = (number * reciprocal) >> shift
    first = (rest * reciprocal) >> shift
    return first, rest - first * side, number - rest * side


@_inner
@no_type_check
def _middle_triple(words, place, n_bits, second, third, per_second, per_third):
    """Three numbers from one of up to 50 bits; `per_` are reciprocals."""
    number = _digits(words, place, n_bits)
    rest = _U(np.int64((np.float64(np.int64(number)) + 0.5) * per_third))
    first = _U(np.int64((np.float64(np.int64(rest)) + 0.5) * per_second))
    return first, rest - first * second, number - rest * third


@_inner
@no_type_check
def _length(number):
    """Bits of a number."""
    n_bits = _U(0)
    while number:
        number >>= _U(1)
        n_bits += _U(1)
    return n_bits


@_inner
@no_type_check
def _length_of_product(sizes):
    """Bits of the product of three numbers of up to 24 bits each."""
    two = sizes[0] * sizes[1]
    low = (two & _U(0xFFFFFF)) * sizes[2]
    high = (two >> _U(24)) * sizes[2] + (low >> _U(24))
    return _length(high) + _U(24) if high else _length(low)


@_inner
@no_type_check
def _put(row, atom, x, y, z, unit):
    row[_U(3) * atom] = np.float32(x) * unit
    row[_U(3) * atom + _U(1)] = np.float32(y) * unit
    row[_U(3) * atom + _U(2)] = np.float32(z) * unit


@_inner
@no_type_check
def _unpack(words, place, end, n_wanted, lowest, sizes, short, unit, row):
    """Positions of the first atoms of a frame, and some after them; False if its bits cannot be right.

    `row` has room for all atoms of the frame, and nothing is written behind it. Whatever was read is seen to end before
    `end` before more is read: no number is longer than the spare words behind.
    """
    n_atoms = _U(len(row) // 3)
    separate = max(sizes[0], sizes[1], sizes[2]) > _U(0xFFFFFF)
    x_bits, y_bits, z_bits = _length(sizes[0]), _length(sizes[1]), _length(sizes[2])
    n_bits = _length_of_product(sizes)
    per_y, per_z = 1 / np.float64(np.int64(sizes[1])), 1 / np.float64(np.int64(sizes[2]))
    atom, n_short = _U(0), _U(0)
    while atom < n_wanted:
        if separate:
            a = _bits(words, place, x_bits)
            b = _bits(words, place + x_bits, y_bits)
            c = _bits(words, place + x_bits + y_bits, z_bits)
            place += x_bits + y_bits + z_bits
        else:
            if n_bits <= _U(_MIDDLE):
                a, b, c = _middle_triple(words, place, n_bits, sizes[1], sizes[2], per_y, per_z)
            else:
                a, b, c = _triple(words, place, n_bits, sizes[1], sizes[2])
            place += n_bits
        x, y, z = lowest[0] + np.int64(a), lowest[1] + np.int64(b), lowest[2] + np.int64(c)
        change, step = _bits(words, place, _U(6)), 0
        if change < _U(32):
            place += _U(1)
        else:
            place += _U(6)
            n_short = (change - _U(32)) // _U(3)
            step = np.int64((change - _U(32)) % _U(3)) - 1
        if n_short == _U(0):
            if place > end:
                return False
            _put(row, atom, x, y, z, unit)
            atom += _U(1)
            short += step
            continue
        if short < _FEWEST or short > _MOST:
            return False
        bits = _U(short)
        if place + n_short * bits > end or atom + n_short >= n_atoms:
            return False
        side, divided = SIDES[bits], min(bits, _U(_SHORT))
        reciprocal, shift = RECIPROCALS[divided], SHIFTS[divided]
        half = np.int64(side >> _U(1))
        # The first two atoms have changed places: of a water, hydrogen is then packed before oxygen.
        px, py, pz = x, y, z
        for i in range(n_short):
            if bits <= _U(_SHORT):
                a, b, c = _short_triple(words, place, bits, side, reciprocal, shift)
            else:
                a, b, c = _triple(words, place, bits, side, side)
            place += bits
            px += np.int64(a) - half
            py += np.int64(b) - half
            pz += np.int64(c) - half
            if i == 0:
                _put(row, atom, px, py, pz, unit)
                _put(row, atom + _U(1), x, y, z, unit)
            else:
                _put(row, atom + _U(1) + _U(i), px, py, pz, unit)
        atom += _U(1) + n_short
        short += step
    return True


@numba.njit("UniTuple(int64, 2)(uint64[::1], int64, int64[::1])", nogil=True, cache=True, error_model="numpy")
@no_type_check
def hop(words, last, starts):
    """From header to header.

    Parameters
    ----------
    words : (n_words,)
        From the first header on; behind the last header there are `SPARE_WORDS`.
    last : int
        Where in them a header may start at most, in bytes.
    starts : (n_most,)
        Written: where frames start.

    Returns
    -------
    n_frames : int
        How many were found.
    place : int
        Where the next frame must start; if it is within `last` and `starts` has room, there is none.
    """
    place, n_frames = np.int64(0), 0
    while place <= last and n_frames < len(starts):
        here = _U(8 * place)
        magic, n_atoms = _bits(words, here, _U(32)), _bits(words, here + _U(32), _U(32))
        wide = magic == _WIDE
        if (magic != _NARROW and not wide) or n_atoms == _U(0) or n_atoms >> _U(31):
            break
        if n_atoms <= _U(9):
            size = 56 + 12 * np.int64(n_atoms)
        else:
            packed = _bits(words, here + _U(8 * 88), _U(64) if wide else _U(32))
            if packed >> (_U(62) if wide else _U(31)):
                break
            size = (96 if wide else 92) + (np.int64(packed) + 3) // 4 * 4
        starts[n_frames] = place
        n_frames += 1
        place += size
    return n_frames, place


@numba.njit(
    "int64(uint64[::1], int64[::1], int64[::1], int64[:, ::1], uint64[:, ::1], int64[::1], float32[::1], int64[::1],"
    " float32[::1], float32[:, :, ::1])",
    nogil=True,
    cache=True,
    error_model="numpy",
)
@no_type_check
def unpack(words, starts, ends, lowest, sizes, shorts, units, atoms, row, positions):
    """Positions of some atoms of many frames.

    Parameters
    ----------
    words : (n_words,)
    starts, ends : (n_frames,)
        Where in them the packed bits of each frame are, in bytes; behind the last are `SPARE_WORDS`.
    lowest, sizes : (n_frames, 3)
        Of the whole numbers that positions are packed as: the lowest, and how many there are.
    shorts : (n_frames,)
        Bits of a short step, at the start.
    units : (n_frames,)
        What the whole numbers are multiplied with.
    atoms : (n_selected,)
        From 0 to less than `n_atoms`; empty for all.
    row : (3 * n_atoms,)
        Scratch.
    positions : (n_frames, n_selected, 3)
        Written.

    Returns
    -------
    int
        Frames before the first one whose bits cannot be right.
    """
    for i in range(len(starts)):
        start, end = _U(8 * starts[i]), _U(8 * ends[i])
        whole = row if len(atoms) else positions[i].reshape(-1)
        n_wanted = _U(atoms.max() + 1) if len(atoms) else _U(len(whole) // 3)
        if not _unpack(words, start, end, n_wanted, lowest[i], sizes[i], shorts[i], units[i], whole):
            return i
        for j in range(len(atoms)):
            for k in range(3):
                positions[i, j, k] = row[3 * atoms[j] + k]
    return len(starts)
