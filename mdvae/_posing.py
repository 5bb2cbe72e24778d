"""Frames posed in place, in one compiled pass over them: what `mdvae.alignment` does frame by frame, by Numba.

A few frames at a time, that they may stay in cache: sums over their atoms, then the small algebra for all of them at
once, frame beside frame, then the turn. All of it in float64, which costs little where memory is what is waited for.
The formulas are those of `mdvae.geometry`, whose files say where they come from, ties decided the same way. No number
depends on which frames a frame is posed with.
"""

import math
from collections.abc import Callable
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float32
from numpy.polynomial import Chebyshev, Polynomial

_UNALIGNED, _SUPERPOSITION, _PRINCIPAL = 0, 1, 2

# Frames whose algebra is done together, a multiple of what vectors hold; every loop over them has this length, so that
# no frame meets other instructions than its neighbors do.
_LANES = 16
# Bytes of frames that are posed together: half of a small second-level cache.
_CACHE = 2**17
# Convergence is quadratic: what is left after five is rounding; one is for safety.
_SWEEPS = 6
# Share of the trace that an entry may have and count as zero: rounding of the other entries is ten times as much.
_NOTHING = 1e-17
_EPS = float(np.finfo(np.float64).eps)
_MANTISSA = np.finfo(np.float64).nmant
# cos(2/3 arccos s), which is smooth from 0 to 1, to 1e-10: a call would keep a loop from vectors.
_THIRD = tuple(Chebyshev.interpolate(lambda s: np.cos(2 / 3 * np.arccos(s)), 11, [0, 1]).convert(kind=Polynomial).coef)

_inner = numba.njit(nogil=True, error_model="numpy")


def _kept(dim):
    """Compile when this file is imported, and keep that beside it, with all that is called, or in the user's folder."""
    given = f"int64, float32[:, ::1], float32[::1], float32[::1], float64, UniTuple(float64, {dim}), float64"
    return numba.njit(f"float64({given})", nogil=True, error_model="numpy", cache=True)


# Sums may be done in any order, as by vectors; what is not a number stays that. A frame is one row of numbers here and
# below: where the compiler sees the 3 it loads and stores whole vectors, and where it does not, number by number.
@numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "nsz", "contract"})
@no_type_check
def _sum_up(x, weights, reference, sums, lane):
    """Weighted sums over the atoms of one frame, relative to its first: of positions, and of their products.

    Those with the reference, then those with one another.
    """
    n = weights.size
    x0, y0, z0 = np.float64(x[0]), np.float64(x[1]), np.float64(x[2])
    sx = sy = sz = 0.0
    cxx = cxy = cxz = cyx = cyy = cyz = czx = czy = czz = 0.0
    mxx = mxy = mxz = myy = myz = mzz = 0.0
    for a in range(n):
        px, py, pz = x[3 * a] - x0, x[3 * a + 1] - y0, x[3 * a + 2] - z0
        w = np.float64(weights[a])
        rx, ry, rz = np.float64(reference[a]), np.float64(reference[n + a]), np.float64(reference[2 * n + a])
        wx, wy, wz = w * px, w * py, w * pz
        sx += wx
        sy += wy
        sz += wz
        cxx += wx * rx
        cxy += wx * ry
        cxz += wx * rz
        cyx += wy * rx
        cyy += wy * ry
        cyz += wy * rz
        czx += wz * rx
        czy += wz * ry
        czz += wz * rz
        mxx += wx * px
        mxy += wx * py
        mxz += wx * pz
        myy += wy * py
        myz += wy * pz
        mzz += wz * pz
    n = _LANES
    sums[lane], sums[n + lane], sums[2 * n + lane] = sx, sy, sz
    sums[3 * n + lane], sums[4 * n + lane], sums[5 * n + lane] = cxx, cxy, cxz
    sums[6 * n + lane], sums[7 * n + lane], sums[8 * n + lane] = cyx, cyy, cyz
    sums[9 * n + lane], sums[10 * n + lane], sums[11 * n + lane] = czx, czy, czz
    sums[12 * n + lane], sums[13 * n + lane], sums[14 * n + lane] = mxx, mxy, mxz
    sums[15 * n + lane], sums[16 * n + lane], sums[17 * n + lane] = myy, myz, mzz


@_inner
@no_type_check
def _center(sums, weight, rx, ry, rz):
    """Turn sums about the first atom into the center, and sums about it."""
    n = _LANES
    for f in range(_LANES):
        x, y, z = sums[f] / weight, sums[n + f] / weight, sums[2 * n + f] / weight
        sums[f], sums[n + f], sums[2 * n + f] = x, y, z
        sums[3 * n + f] -= x * rx
        sums[4 * n + f] -= x * ry
        sums[5 * n + f] -= x * rz
        sums[6 * n + f] -= y * rx
        sums[7 * n + f] -= y * ry
        sums[8 * n + f] -= y * rz
        sums[9 * n + f] -= z * rx
        sums[10 * n + f] -= z * ry
        sums[11 * n + f] -= z * rz
        sums[12 * n + f] -= weight * x * x
        sums[13 * n + f] -= weight * x * y
        sums[14 * n + f] -= weight * x * z
        sums[15 * n + f] -= weight * y * y
        sums[16 * n + f] -= weight * y * z
        sums[17 * n + f] -= weight * z * z


@_inner
@no_type_check
def _quaternion_matrix(sums, b):
    """Horn's matrix as in `superposition`, scaled and shifted as in `eigen.dominant_eigenvector`: its upper half."""
    n = _LANES
    for f in range(_LANES):
        xx, xy, xz = sums[3 * n + f], sums[4 * n + f], sums[5 * n + f]
        yx, yy, yz = sums[6 * n + f], sums[7 * n + f], sums[8 * n + f]
        zx, zy, zz = sums[9 * n + f], sums[10 * n + f], sums[11 * n + f]
        b00, b01, b02, b03 = xx + yy + zz, yz - zy, zx - xz, xy - yx
        b11, b12, b13 = xx - yy - zz, xy + yx, zx + xz
        b22, b23, b33 = yy - xx - zz, yz + zy, zz - xx - yy
        norm = max(
            max(abs(b00) + abs(b01) + abs(b02) + abs(b03), abs(b01) + abs(b11) + abs(b12) + abs(b13)),
            max(abs(b02) + abs(b12) + abs(b22) + abs(b23), abs(b03) + abs(b13) + abs(b23) + abs(b33)),
        )
        scale = 1.0 / norm if norm > 0 else 1.0
        b[f], b[n + f], b[2 * n + f], b[3 * n + f] = b00 * scale + 1.0, b01 * scale, b02 * scale, b03 * scale
        b[4 * n + f], b[5 * n + f], b[6 * n + f] = b11 * scale + 1.0, b12 * scale, b13 * scale
        b[7 * n + f], b[8 * n + f], b[9 * n + f] = b22 * scale + 1.0, b23 * scale, b33 * scale + 1.0
        b[10 * n + f] = 0.0


@_inner
@no_type_check
def _square(b):
    """Square what is not settled yet, to trace 1; how many are still unsettled."""
    n = _LANES
    unsettled = 0
    for f in range(_LANES):
        b00, b01, b02, b03 = b[f], b[n + f], b[2 * n + f], b[3 * n + f]
        b11, b12, b13 = b[4 * n + f], b[5 * n + f], b[6 * n + f]
        b22, b23, b33 = b[7 * n + f], b[8 * n + f], b[9 * n + f]
        live = b[10 * n + f] < 1 - math.sqrt(_EPS)
        s00 = b00 * b00 + b01 * b01 + b02 * b02 + b03 * b03
        s01 = b00 * b01 + b01 * b11 + b02 * b12 + b03 * b13
        s02 = b00 * b02 + b01 * b12 + b02 * b22 + b03 * b23
        s03 = b00 * b03 + b01 * b13 + b02 * b23 + b03 * b33
        s11 = b01 * b01 + b11 * b11 + b12 * b12 + b13 * b13
        s12 = b01 * b02 + b11 * b12 + b12 * b22 + b13 * b23
        s13 = b01 * b03 + b11 * b13 + b12 * b23 + b13 * b33
        s22 = b02 * b02 + b12 * b12 + b22 * b22 + b23 * b23
        s23 = b02 * b03 + b12 * b13 + b22 * b23 + b23 * b33
        s33 = b03 * b03 + b13 * b13 + b23 * b23 + b33 * b33
        trace = s00 + s11 + s22 + s33
        scale = 1.0 / trace
        b[f] = s00 * scale if live else b00
        b[n + f] = s01 * scale if live else b01
        b[2 * n + f] = s02 * scale if live else b02
        b[3 * n + f] = s03 * scale if live else b03
        b[4 * n + f] = s11 * scale if live else b11
        b[5 * n + f] = s12 * scale if live else b12
        b[6 * n + f] = s13 * scale if live else b13
        b[7 * n + f] = s22 * scale if live else b22
        b[8 * n + f] = s23 * scale if live else b23
        b[9 * n + f] = s33 * scale if live else b33
        b[10 * n + f] = trace if live else b[10 * n + f]
        unsettled += 1 if trace < 1 - math.sqrt(_EPS) else 0
    return unsettled


@_inner
@no_type_check
def _superposed(sums, b, turns, gaps, size):
    """Rotations of quaternions, and gaps: those of `superposition`."""
    n = _LANES
    c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11 = _THIRD
    for f in range(_LANES):
        w, x, y, z, largest = b[f], b[n + f], b[2 * n + f], b[3 * n + f], b[f]
        longer = b[4 * n + f] > largest
        largest = b[4 * n + f] if longer else largest
        w, x = (b[n + f] if longer else w), (b[4 * n + f] if longer else x)
        y, z = (b[5 * n + f] if longer else y), (b[6 * n + f] if longer else z)
        longer = b[7 * n + f] > largest
        largest = b[7 * n + f] if longer else largest
        w, x = (b[2 * n + f] if longer else w), (b[5 * n + f] if longer else x)
        y, z = (b[7 * n + f] if longer else y), (b[8 * n + f] if longer else z)
        longer = b[9 * n + f] > largest
        w, x = (b[3 * n + f] if longer else w), (b[6 * n + f] if longer else x)
        y, z = (b[8 * n + f] if longer else y), (b[9 * n + f] if longer else z)
        length = 1.0 / math.sqrt(w * w + x * x + y * y + z * z)
        w, x, y, z = w * length, x * length, y * length, z * length
        r00, r01, r02 = w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)
        r10, r11, r12 = 2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)
        r20, r21, r22 = 2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z
        turns[f], turns[n + f], turns[2 * n + f] = r00, r01, r02
        turns[3 * n + f], turns[4 * n + f], turns[5 * n + f] = r10, r11, r12
        turns[6 * n + f], turns[7 * n + f], turns[8 * n + f] = r20, r21, r22
        xx, xy, xz = sums[3 * n + f], sums[4 * n + f], sums[5 * n + f]
        yx, yy, yz = sums[6 * n + f], sums[7 * n + f], sums[8 * n + f]
        zx, zy, zz = sums[9 * n + f], sums[10 * n + f], sums[11 * n + f]
        # The covariance, once turned; its largest eigenvalue as in `eigen.largest_eigenvalue`.
        p, q, r = r00 * xx + r01 * yx + r02 * zx, r10 * xy + r11 * yy + r12 * zy, r20 * xz + r21 * yz + r22 * zz
        h = 0.5 * (r10 * xz + r11 * yz + r12 * zz + r20 * xy + r21 * yy + r22 * zy)
        i = 0.5 * (r00 * xz + r01 * yz + r02 * zz + r20 * xx + r21 * yx + r22 * zx)
        j = 0.5 * (r00 * xy + r01 * yy + r02 * zy + r10 * xx + r11 * yx + r12 * zx)
        trace = p + q + r
        mean = trace / 3
        p, q, r = p - mean, q - mean, r - mean
        spread = math.sqrt((p * p + q * q + r * r + 2 * (h * h + i * i + j * j)) / 6)
        scale = 1.0 / spread if spread > 0 else 1.0
        p, q, r, h, i, j = p * scale, q * scale, r * scale, h * scale, i * scale, j * scale
        determinant = p * (q * r - h * h) - j * (j * r - h * i) + i * (j * h - q * i)
        # The cosine of a third of an angle, by the cosine of its half.
        half = math.sqrt(0.5 + 0.25 * min(max(determinant, -2.0), 2.0))
        third = c6 + half * (c7 + half * (c8 + half * (c9 + half * (c10 + half * c11))))
        third = c0 + half * (c1 + half * (c2 + half * (c3 + half * (c4 + half * (c5 + half * third)))))
        gap = max(trace - mean - 2 * spread * third, 0.0)
        extent = math.sqrt(max(sums[12 * n + f] + sums[15 * n + f] + sums[17 * n + f], 0.0) * size)
        gaps[f] = gap / extent if extent > 0 else gap


@_inner
@no_type_check
def _tangent(app, aqq, apq, least):
    """Tangent of the smaller of the two angles that zero ``apq``; of none where that is least."""
    small = abs(apq) <= least
    tau = (aqq - app) / (2 * (1.0 if small else apq))
    tangent = (1.0 if tau >= 0 else -1.0) / (abs(tau) + math.sqrt(1 + tau * tau))
    return 0.0 if small else tangent


@_inner
@no_type_check
def _sweep(sums, v):
    """One rotation in every plane, as in `eigen`; how many matrices are not diagonal yet."""
    n = _LANES
    unsettled = 0
    for f in range(_LANES):
        a00, a01, a02 = sums[12 * n + f], sums[13 * n + f], sums[14 * n + f]
        a11, a12, a22 = sums[15 * n + f], sums[16 * n + f], sums[17 * n + f]
        least = _NOTHING * (a00 + a11 + a22)
        v00, v01, v02 = v[f], v[n + f], v[2 * n + f]
        v10, v11, v12 = v[3 * n + f], v[4 * n + f], v[5 * n + f]
        v20, v21, v22 = v[6 * n + f], v[7 * n + f], v[8 * n + f]
        t = _tangent(a00, a11, a01, least)
        c = 1.0 / math.sqrt(1 + t * t)
        s = t * c
        a00, a11, a01 = a00 - t * a01, a11 + t * a01, 0.0
        a02, a12 = c * a02 - s * a12, s * a02 + c * a12
        v00, v01 = c * v00 - s * v01, s * v00 + c * v01
        v10, v11 = c * v10 - s * v11, s * v10 + c * v11
        v20, v21 = c * v20 - s * v21, s * v20 + c * v21
        t = _tangent(a00, a22, a02, least)
        c = 1.0 / math.sqrt(1 + t * t)
        s = t * c
        a00, a22, a02 = a00 - t * a02, a22 + t * a02, 0.0
        a01, a12 = c * a01 - s * a12, s * a01 + c * a12
        v00, v02 = c * v00 - s * v02, s * v00 + c * v02
        v10, v12 = c * v10 - s * v12, s * v10 + c * v12
        v20, v22 = c * v20 - s * v22, s * v20 + c * v22
        t = _tangent(a11, a22, a12, least)
        c = 1.0 / math.sqrt(1 + t * t)
        s = t * c
        a11, a22, a12 = a11 - t * a12, a22 + t * a12, 0.0
        a01, a02 = c * a01 - s * a02, s * a01 + c * a02
        v01, v02 = c * v01 - s * v02, s * v01 + c * v02
        v11, v12 = c * v11 - s * v12, s * v11 + c * v12
        v21, v22 = c * v21 - s * v22, s * v21 + c * v22
        sums[12 * n + f], sums[13 * n + f], sums[14 * n + f] = a00, a01, a02
        sums[15 * n + f], sums[16 * n + f], sums[17 * n + f] = a11, a12, a22
        v[f], v[n + f], v[2 * n + f] = v00, v01, v02
        v[3 * n + f], v[4 * n + f], v[5 * n + f] = v10, v11, v12
        v[6 * n + f], v[7 * n + f], v[8 * n + f] = v20, v21, v22
        unsettled += 1 if abs(a01) + abs(a02) > least else 0
    return unsettled


@_inner
@no_type_check
def _laid(sums, v, turns, gaps):
    """Axes in descending order of their moments, the nearest of the proper flips, and gaps: those of `principal`."""
    n = _LANES
    for f in range(_LANES):
        a, b, c = sums[12 * n + f], sums[15 * n + f], sums[17 * n + f]
        ax, ay, az = v[f], v[3 * n + f], v[6 * n + f]
        bx, by, bz = v[n + f], v[4 * n + f], v[7 * n + f]
        cx, cy, cz = v[2 * n + f], v[5 * n + f], v[8 * n + f]
        swap = a < b
        a, b = (b if swap else a), (a if swap else b)
        ax, bx = (bx if swap else ax), (ax if swap else bx)
        ay, by = (by if swap else ay), (ay if swap else by)
        az, bz = (bz if swap else az), (az if swap else bz)
        swap = b < c
        b, c = (c if swap else b), (b if swap else c)
        bx, cx = (cx if swap else bx), (bx if swap else cx)
        by, cy = (cy if swap else by), (by if swap else cy)
        bz, cz = (cz if swap else bz), (bz if swap else cz)
        swap = a < b
        a, b = (b if swap else a), (a if swap else b)
        ax, bx = (bx if swap else ax), (ax if swap else bx)
        ay, by = (by if swap else ay), (ay if swap else by)
        az, bz = (bz if swap else az), (az if swap else bz)
        total = a + b + c
        gaps[f] = min(a - b, b - c) / (total if total > 0 else 1.0)
        alpha = ax * sums[3 * n + f] + ay * sums[6 * n + f] + az * sums[9 * n + f]
        beta = bx * sums[4 * n + f] + by * sums[7 * n + f] + bz * sums[10 * n + f]
        gamma = cx * sums[5 * n + f] + cy * sums[8 * n + f] + cz * sums[11 * n + f]
        # Two signs are free, the third is the one that makes the flip proper.
        hand = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
        hand = 1.0 if hand > 0 else -1.0
        gamma *= hand
        best, p, q = alpha + beta + gamma, 1.0, 1.0
        better = alpha - beta - gamma > best
        best, q = (alpha - beta - gamma if better else best), (-1.0 if better else q)
        better = -alpha + beta - gamma > best
        best, p, q = (-alpha + beta - gamma if better else best), (-1.0 if better else p), (1.0 if better else q)
        better = -alpha - beta + gamma > best
        p, q = (-1.0 if better else p), (-1.0 if better else q)
        r = p * q * hand
        turns[f], turns[n + f], turns[2 * n + f] = p * ax, p * ay, p * az
        turns[3 * n + f], turns[4 * n + f], turns[5 * n + f] = q * bx, q * by, q * bz
        turns[6 * n + f], turns[7 * n + f], turns[8 * n + f] = r * cx, r * cy, r * cz


@numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})
@no_type_check
def _move(x, cx, cy, cz, r00, r01, r02, r10, r11, r12, r20, r21, r22):
    """Move one frame by what its center is off its first atom, and turn it."""
    x0, y0, z0 = np.float64(x[0]), np.float64(x[1]), np.float64(x[2])
    for a in range(x.size // 3):
        px, py, pz = x[3 * a] - x0 - cx, x[3 * a + 1] - y0 - cy, x[3 * a + 2] - z0 - cz
        x[3 * a] = r00 * px + r01 * py + r02 * pz
        x[3 * a + 1] = r10 * px + r11 * py + r12 * pz
        x[3 * a + 2] = r20 * px + r21 * py + r22 * pz


@numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "nsz", "contract"})
@no_type_check
def _sum_up_flat(x, weights, reference):
    """`_sum_up` of one frame in the plane."""
    n = weights.size
    x0, y0 = np.float64(x[0]), np.float64(x[1])
    sx = sy = cxx = cxy = cyx = cyy = mxx = mxy = myy = 0.0
    for a in range(n):
        px, py = x[2 * a] - x0, x[2 * a + 1] - y0
        w, rx, ry = np.float64(weights[a]), np.float64(reference[a]), np.float64(reference[n + a])
        wx, wy = w * px, w * py
        sx += wx
        sy += wy
        cxx += wx * rx
        cxy += wx * ry
        cyx += wy * rx
        cyy += wy * ry
        mxx += wx * px
        mxy += wx * py
        myy += wy * py
    return sx, sy, cxx, cxy, cyx, cyy, mxx, mxy, myy


@_inner
@no_type_check
def _turn_flat(kind, cxx, cxy, cyx, cyy, mxx, mxy, myy, size):
    """Rotation in the plane, row by row, and its gap: those of `superposition` and `principal`."""
    if kind == _SUPERPOSITION:
        c, s = cxx + cyy, cxy - cyx
        length = math.sqrt(c * c + s * s)
        extent = math.sqrt(max(mxx + myy, 0.0) * size)
        c, s = (c / length, s / length) if length > 0 else (1.0, 0.0)
        return c, -s, s, c, length / (extent if extent > 0 else 1.0)
    t = _tangent(mxx, myy, mxy, 0.0)
    c = 1.0 / math.sqrt(1 + t * t)
    s = t * c
    a, b, ax, ay, bx, by, hand = mxx - t * mxy, myy + t * mxy, c, -s, s, c, 1.0
    if a < b:
        a, b, ax, ay, bx, by, hand = b, a, s, c, c, -s, -1.0
    along = ax * cxx + ay * cyx + hand * (bx * cxy + by * cyy)
    p = -1.0 if -along > along else 1.0
    q = p * hand
    total = a + b
    return p * ax, p * ay, q * bx, q * by, (a - b) / (total if total > 0 else 1.0)


@numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})
@no_type_check
def _move_flat(x, cx, cy, r00, r01, r10, r11):
    """`_move` of one frame in the plane."""
    x0, y0 = np.float64(x[0]), np.float64(x[1])
    for a in range(x.size // 2):
        px, py = x[2 * a] - x0 - cx, x[2 * a + 1] - y0 - cy
        x[2 * a] = r00 * px + r01 * py
        x[2 * a + 1] = r10 * px + r11 * py


@_kept(2)
@no_type_check
def _pose_flat(kind, frames, weights, reference, weight, of_reference, size):
    """Pose frames in the plane, each of them a row of its numbers; their smallest gap."""
    rx, ry = of_reference
    smallest = 1.0
    for f in range(len(frames)):
        sx, sy, cxx, cxy, cyx, cyy, mxx, mxy, myy = _sum_up_flat(frames[f], weights, reference)
        x, y = sx / weight, sy / weight
        if kind == _UNALIGNED:
            _move_flat(frames[f], x, y, 1.0, 0.0, 0.0, 1.0)
            continue
        mxx, mxy, myy = mxx - x * sx, mxy - x * sy, myy - y * sy
        cxx, cxy, cyx, cyy = cxx - x * rx, cxy - x * ry, cyx - y * rx, cyy - y * ry
        r00, r01, r10, r11, gap = _turn_flat(kind, cxx, cxy, cyx, cyy, mxx, mxy, myy, size)
        _move_flat(frames[f], x, y, r00, r01, r10, r11)
        smallest = gap if gap < smallest else smallest
    return smallest


@_inner
@no_type_check
def _turn(kind, sums, work, turns, gaps, size):
    """Rotations in space of all lanes, and their gaps, out of sums about centers."""
    n = _LANES
    turns[:] = 0.0
    for k in range(3):
        turns[4 * k * n : (4 * k + 1) * n] = 1.0
    if kind == _SUPERPOSITION:
        _quaternion_matrix(sums, work)
        # The first time the trace is not 1, and what it says must not count.
        _square(work)
        work[10 * n :] = 0.0
        for _ in range(_MANTISSA - 1):
            if _square(work) == 0:
                break
        _superposed(sums, work, turns, gaps, size)
    elif kind == _PRINCIPAL:
        work[: 9 * n] = turns
        for _ in range(_SWEEPS):
            if _sweep(sums, work) == 0:
                break
        _laid(sums, work, turns, gaps)


@_kept(3)
@no_type_check
def _pose_solid(kind, frames, weights, reference, weight, of_reference, size):
    """Pose frames in space, each of them a row of its numbers; their smallest gap."""
    rx, ry, rz = of_reference
    n = _LANES
    sums, work, turns, gaps = np.zeros(18 * n), np.zeros(11 * n), np.zeros(9 * n), np.ones(n)
    together = max(1, min(n, _CACHE // (4 * frames.shape[1])))
    smallest = 1.0
    for first in range(0, len(frames), together):
        few = min(together, len(frames) - first)
        for f in range(few):
            _sum_up(frames[first + f], weights, reference, sums, f)
        _center(sums, weight, rx, ry, rz)
        _turn(kind, sums, work, turns, gaps, size)
        for f in range(few):
            x, y, z = sums[f], sums[n + f], sums[2 * n + f]
            r00, r01, r02 = turns[f], turns[n + f], turns[2 * n + f]
            r10, r11, r12 = turns[3 * n + f], turns[4 * n + f], turns[5 * n + f]
            r20, r21, r22 = turns[6 * n + f], turns[7 * n + f], turns[8 * n + f]
            _move(frames[first + f], x, y, z, r00, r01, r02, r10, r11, r12, r20, r21, r22)
            smallest = gaps[f] if gaps[f] < smallest else smallest
    return smallest


def poser(
    name: str, weights: Float32[np.ndarray, " n_atoms"], reference: Float32[np.ndarray, "n_atoms dim"]
) -> Callable[[Float32[np.ndarray, "n_frames n_atoms dim"]], float]:
    """Function that poses frames in place, without the interpreter, and gives their smallest gap, 1 for no frames.

    Parameters
    ----------
    name : {"superposition", "principal", "none"}
        Of the alignment.
    weights : (n_atoms,)
    reference : (n_atoms, dim), nm
        Of the alignment; zeros where it has none.

    Returns
    -------
    callable
        Of an array (n_frames, n_atoms, dim) that is contiguous, aligned and writable. Frames that hold what is not a
        number have no gap.
    """
    kind = {"none": _UNALIGNED, "superposition": _SUPERPOSITION, "principal": _PRINCIPAL}[name]
    of_atoms, planes = weights.astype(np.float64), reference.astype(np.float64).T
    size = float(of_atoms @ np.sum(planes**2, axis=0))
    run = _pose_flat if len(planes) == 2 else _pose_solid
    # Copies: what JAX hands out is read-only, which is another type.
    given = (
        np.array(weights),
        np.array(reference.T, order="C").ravel(),
        float(of_atoms.sum()),
        tuple(planes @ of_atoms),
        size,
    )

    def pose(frames: Float32[np.ndarray, "n_frames n_atoms dim"]) -> float:
        return run(kind, np.asarray(frames).reshape(len(frames), reference.size), *given)

    return pose
