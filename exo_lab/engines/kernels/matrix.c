/* Products of positions with four- and eight-bit weights, for x86 processors with AVX-512 BF16: weights times a few
 * positions as they are unpacked, and times many from where they were unpacked once. A position's sum is made in the same
 * order whatever the number of positions or threads is: for every group of columns the pairs with even and with odd
 * numbers by themselves, their sum times the scale, then the position's own sum of the group times the low.
 *
 * Compiled and called by native.py; knows nothing of Python.
 */
#include "packed.h"

#define AT_ONCE 6 /* of many positions: 2 blocks x 6 positions x 2 sums fill 24 of the 32 registers */
#define DEPTH 8  /* groups unpacked at a time, of two blocks: 18 KiB */

/* `count` positions times one block of 16 rows. x: bfloat16, out: float32, rows apart by their strides. */
static inline __attribute__((always_inline)) void block(const int bits, const uint8_t *w, const uint16_t *x,
                                                        const float *sums, float *out, integer groups, integer rows,
                                                        const int count) {
    const __m512i table = _mm512_loadu_si512(SMALL);
    const integer columns = groups * GROUP, bytes = bits == 4 ? BYTES4 : BYTES8;
    __m512 total[FEW];
    for (int j = 0; j < count; j++) total[j] = _mm512_setzero_ps();
    for (integer g = 0; g < groups; g++, w += bytes) {
        __m512 even[FEW], odd[FEW];
        for (int j = 0; j < count; j++) even[j] = odd[j] = _mm512_setzero_ps();
        for (int v = 0; v < PAIRS / 4; v++) {
            const __m512i packed = _mm512_loadu_si512(w + 64 * v);
            if (bits == 4) _mm_prefetch((const char *)w + 64 * v + 8 * BYTES4, _MM_HINT_T0);
            for (int s = 0; s < 4; s++) {
                const int p = 4 * v + s;
                if (bits == 8 && p % 2 == 0) _mm_prefetch((const char *)w + 32 * p + 6 * BYTES8, _MM_HINT_T0);
                const __m512bh q = (__m512bh)(bits == 4 ? pairs4(packed, s, table) : pairs8(w + 2 * ROWS * p));
                for (int j = 0; j < count; j++) {
                    const __m512bh both = pair_of(x + j * columns + g * GROUP + 2 * p);
                    if (p % 2)
                        odd[j] = _mm512_dpbf16_ps(odd[j], q, both);
                    else
                        even[j] = _mm512_dpbf16_ps(even[j], q, both);
                }
            }
        }
        const __m512 scale = halves(w + 16 * GROUP * bits / 8);
        for (int j = 0; j < count; j++) total[j] = _mm512_fmadd_ps(_mm512_add_ps(even[j], odd[j]), scale, total[j]);
        if (bits == 4) {
            const __m512 low = halves(w + 288);
            for (int j = 0; j < count; j++)
                total[j] = _mm512_fmadd_ps(_mm512_set1_ps(sums[j * groups + g]), low, total[j]);
        }
    }
    for (int j = 0; j < count; j++) _mm512_storeu_ps(out + j * rows, total[j]);
}

/* A group of a block, unpacked. */
typedef struct {
    __m512i pair[PAIRS];
    __m512 scale, low;
} Group;

static inline __attribute__((always_inline)) void unpack(const int bits, const uint8_t *w, Group *to, integer depth) {
    const __m512i table = _mm512_loadu_si512(SMALL);
    for (integer g = 0; g < depth; g++, to++, w += bits == 4 ? BYTES4 : BYTES8) {
        if (bits == 4) {
            for (int v = 0; v < PAIRS / 4; v++) {
                const __m512i packed = _mm512_loadu_si512(w + 64 * v);
                for (int s = 0; s < 4; s++) to->pair[4 * v + s] = pairs4(packed, s, table);
            }
            to->scale = halves(w + 256);
            to->low = halves(w + 288);
        } else {
            for (int p = 0; p < PAIRS; p++) to->pair[p] = pairs8(w + 2 * ROWS * p);
            to->scale = halves(w + 512);
        }
    }
}

/* `count` positions, paired, times `blocks` blocks of `depth` groups that are unpacked; added to what is in `out` unless
 * these groups are the first. */
static inline __attribute__((always_inline)) void tile(const int bits, const Group (*unpacked)[DEPTH], integer depth,
                                                       const int *x, const float *sums, float *out, integer rows,
                                                       int first, const int blocks, const int count) {
    __m512 total[2][AT_ONCE];
    for (int b = 0; b < blocks; b++)
        for (int j = 0; j < count; j++)
            total[b][j] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(out + j * rows + b * ROWS);
    for (integer g = 0; g < depth; g++, x += PAIRS * count, sums += count) {
        __m512 even[2][AT_ONCE], odd[2][AT_ONCE];
        for (int b = 0; b < blocks; b++)
            for (int j = 0; j < count; j++) even[b][j] = odd[b][j] = _mm512_setzero_ps();
#pragma GCC unroll 8
        for (int p = 0; p < PAIRS; p += 2) {
            for (int j = 0; j < count; j++) {
                const __m512bh both = (__m512bh)_mm512_set1_epi32(x[p * count + j]);
                for (int b = 0; b < blocks; b++)
                    even[b][j] = _mm512_dpbf16_ps(even[b][j], (__m512bh)unpacked[b][g].pair[p], both);
            }
            for (int j = 0; j < count; j++) {
                const __m512bh both = (__m512bh)_mm512_set1_epi32(x[(p + 1) * count + j]);
                for (int b = 0; b < blocks; b++)
                    odd[b][j] = _mm512_dpbf16_ps(odd[b][j], (__m512bh)unpacked[b][g].pair[p + 1], both);
            }
        }
        for (int b = 0; b < blocks; b++)
            for (int j = 0; j < count; j++) {
                const __m512 group = _mm512_add_ps(even[b][j], odd[b][j]);
                total[b][j] = _mm512_fmadd_ps(group, unpacked[b][g].scale, total[b][j]);
                if (bits == 4)
                    total[b][j] = _mm512_fmadd_ps(_mm512_set1_ps(sums[j]), unpacked[b][g].low, total[b][j]);
            }
    }
    for (int b = 0; b < blocks; b++)
        for (int j = 0; j < count; j++) _mm512_storeu_ps(out + j * rows + b * ROWS, total[b][j]);
}

/* How many of the positions that are left go together: equal shares, as few as there can be. */
static inline integer next(integer left) {
    const integer shares = (left + AT_ONCE - 1) / AT_ONCE;
    return (left + shares - 1) / shares;
}

/* All positions times two blocks, or the last one. */
static inline __attribute__((always_inline)) void tiles(const int bits, const Group (*unpacked)[DEPTH], integer g,
                                                        integer depth, const int *x, const float *sums, float *out,
                                                        integer n, integer groups, integer rows, const int blocks) {
#define TILE(count)                                                                                                   \
    case count:                                                                                                       \
        tile(bits, unpacked, depth, x + (j * groups + g * count) * PAIRS, sums + j * groups + g * count,              \
             out + j * rows, rows, g == 0, blocks, count);                                                            \
        break
    for (integer j = 0; j < n; j += next(n - j)) switch (next(n - j)) {
            TILE(6);
            TILE(5);
            TILE(4);
            TILE(3);
            TILE(2);
            TILE(1);
        }
#undef TILE
}

/* Blocks [block, block + 2) times all positions, a few groups at a time, so that what is unpacked stays close. */
static inline __attribute__((always_inline)) void many(const int bits, const uint8_t *w, const int *x,
                                                       const float *sums, float *out, integer n, integer rows,
                                                       integer groups, integer block) {
    const integer bytes = bits == 4 ? BYTES4 : BYTES8;
    Group unpacked[2][DEPTH];
    for (integer g = 0; g < groups; g += DEPTH) {
        const integer depth = groups - g < DEPTH ? groups - g : DEPTH;
        const uint8_t *at = w + (block * groups + g) * bytes;
        unpack(bits, at, unpacked[0], depth);
        /* What is unpacked next comes from memory meanwhile: more of this block, or the beginning of the next one. */
        const uint8_t *ahead = g + DEPTH < groups ? at + DEPTH * bytes : at + (2 * groups - g) * bytes;
        for (integer i = 0; i < DEPTH * bytes; i += 64) _mm_prefetch((const char *)ahead + i, _MM_HINT_T1);
        if ((block + 1) * ROWS < rows) {
            unpack(bits, at + groups * bytes, unpacked[1], depth);
            for (integer i = 0; i < DEPTH * bytes; i += 64)
                _mm_prefetch((const char *)ahead + groups * bytes + i, _MM_HINT_T1);
            tiles(bits, unpacked, g, depth, x, sums, out + block * ROWS, n, groups, rows, 2);
        } else {
            tiles(bits, unpacked, g, depth, x, sums, out + block * ROWS, n, groups, rows, 1);
        }
    }
}

/* x as pairs that lie as they are read: the positions that go together, and of these the first pair, the second, ... */
static void pair_up(const uint16_t *x, int *paired, const float *sums, float *ordered, integer n, integer groups) {
    for (integer j = 0, count; j < n; j += count) {
        count = next(n - j);
        for (integer k = 0; k < count; k++) {
            const int *from = (const int *)(x + (j + k) * groups * GROUP);
            int *to = paired + j * groups * PAIRS + k;
            for (integer p = 0; p < groups * PAIRS; p++) to[p * count] = from[p];
            for (integer g = 0; g < groups; g++) ordered[j * groups + g * count + k] = sums[(j + k) * groups + g];
        }
    }
}

/* Sum of each group of 32. */
static void add_up(const uint16_t *x, float *sums, integer count) {
    for (integer i = 0; i < count; i++) {
        const __m512i value = _mm512_loadu_si512(x + i * GROUP);
        const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(value, 16));
        const __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(value, _mm512_set1_epi32((int)0xffff0000u)));
        sums[i] = _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
    }
}

/* x: bfloat16 (n, columns); scratch: float32 (n, columns); out: float32 (n, rows). `bits` is a constant in each. */
#define TIMES(bits, bytes)                                                                                            \
    void exo_times##bits(const uint8_t *w, const uint16_t *x, float *scratch, float *out, integer n, integer rows,    \
                         integer groups, int threads) {                                                               \
        float *sums = scratch, *ordered = sums + n * groups;                                                          \
        int *paired = (int *)(ordered + n * groups);                                                                  \
        add_up(x, sums, n * groups);                                                                                  \
        if (n > FEW) {                                                                                                \
            pair_up(x, paired, sums, ordered, n, groups);                                                             \
            _Pragma("omp parallel for num_threads(threads) schedule(static) if (threads > 1)")                        \
            for (integer b = 0; b < rows / ROWS; b += 2) many(bits, w, paired, ordered, out, n, rows, groups, b);     \
            return;                                                                                                   \
        }                                                                                                             \
        _Pragma("omp parallel for num_threads(threads) schedule(static) if (threads > 1)")                            \
        for (integer b = 0; b < rows / ROWS; b++) {                                                                   \
            const uint8_t *at = w + b * groups * bytes;                                                               \
            float *to = out + b * ROWS;                                                                               \
            if (n == 4) block(bits, at, x, sums, to, groups, rows, 4);                                                \
            if (n == 3) block(bits, at, x, sums, to, groups, rows, 3);                                                \
            if (n == 2) block(bits, at, x, sums, to, groups, rows, 2);                                                \
            if (n == 1) block(bits, at, x, sums, to, groups, rows, 1);                                                \
        }                                                                                                             \
    }

TIMES(4, BYTES4)
TIMES(8, BYTES8)

static inline float half(const uint8_t *at, int lane) {
    return _cvtsh_ss(((const uint16_t *)at)[lane]);
}

/* Rows by index: out float32 (n, columns). */
void exo_rows4(const uint8_t *w, const integer *ids, float *out, integer n, integer groups) {
    for (integer i = 0; i < n; i++) {
        const int lane = (int)(ids[i] % ROWS);
        const uint8_t *at = w + ids[i] / ROWS * groups * BYTES4;
        for (integer g = 0; g < groups; g++, at += BYTES4) {
            const float scale = half(at + 256, lane), low = half(at + 288, lane);
            for (int c = 0; c < GROUP; c++) {
                const uint16_t word = ((const uint16_t *)(at + 64 * (c / 8)))[2 * lane + c % 2];
                *out++ = (float)(word >> (4 * (c / 2 % 4)) & 15) * scale + low;
            }
        }
    }
}

/* As exo_rows4. */
void exo_rows8(const uint8_t *w, const integer *ids, float *out, integer n, integer groups) {
    for (integer i = 0; i < n; i++) {
        const int lane = (int)(ids[i] % ROWS);
        const uint8_t *at = w + ids[i] / ROWS * groups * BYTES8;
        for (integer g = 0; g < groups; g++, at += BYTES8) {
            const float scale = half(at + 512, lane);
            for (int c = 0; c < GROUP; c++) *out++ = (float)((const int8_t *)at)[16 * c + lane] * scale;
        }
    }
}

/* q: (rows, columns) bytes in 0..15; scale, low: float16 (rows, groups). Whole blocks of 16 rows. */
void exo_pack4(const uint8_t *q, const uint16_t *scale, const uint16_t *low, uint8_t *w, integer rows,
               integer groups) {
    for (integer block = 0; block < rows / ROWS; block++)
        for (integer g = 0; g < groups; g++, w += BYTES4)
            for (int lane = 0; lane < ROWS; lane++) {
                const integer row = block * ROWS + lane;
                const uint8_t *from = q + (row * groups + g) * GROUP;
                for (int v = 0; v < 4; v++)
                    for (int odd = 0; odd < 2; odd++) {
                        const uint8_t *c = from + 8 * v + odd;
                        ((uint16_t *)(w + 64 * v))[2 * lane + odd] =
                            (uint16_t)(c[0] | c[2] << 4 | c[4] << 8 | c[6] << 12);
                    }
                ((uint16_t *)(w + 256))[lane] = scale[row * groups + g];
                ((uint16_t *)(w + 288))[lane] = low[row * groups + g];
            }
}

/* q: (rows, columns) signed bytes; scale: float16 (rows, groups). */
void exo_pack8(const int8_t *q, const uint16_t *scale, uint8_t *w, integer rows, integer groups) {
    for (integer block = 0; block < rows / ROWS; block++)
        for (integer g = 0; g < groups; g++, w += BYTES8)
            for (int lane = 0; lane < ROWS; lane++) {
                const integer row = block * ROWS + lane;
                for (int c = 0; c < GROUP; c++) ((int8_t *)w)[16 * c + lane] = q[(row * groups + g) * GROUP + c];
                ((uint16_t *)(w + 512))[lane] = scale[row * groups + g];
            }
}
