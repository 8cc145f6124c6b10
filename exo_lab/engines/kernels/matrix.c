/* Products of a few positions with four- and eight-bit weights, for x86 processors with AVX-512 BF16.
 *
 * A weight is w = q * scale + low with q in 0..15 (four bits; low = 0 and q in -128..127 for eight), one float16 scale
 * (and low) for 32 weights of a row. 16 rows lie together: lane i of a register belongs to row i. For every group of 32
 * columns there follow
 *   four bits:  256 bytes of q, 16 float16 scales, 16 float16 lows;
 *   eight bits: 512 bytes of q (16 of column 0, 16 of column 1, ...), 16 float16 scales.
 * Four bits: 16-bit word c % 2 of lane i of register v holds columns 8 v + 2 s + (c % 2), s = 0..3, at bits 4 s.
 * A position's sum is made in the same order whatever the number of positions or threads is.
 *
 * Compiled and called by native.py; knows nothing of Python.
 */
#include <immintrin.h>
#include <stdint.h>

#define ROWS 16
#define GROUP 32
#define BYTES4 320
#define BYTES8 544

typedef long long integer;

/* q in 0..15 as bfloat16, twice: the permutation below looks at five bits. */
static const uint16_t SMALL[32] = {
    0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120, 0x4130, 0x4140, 0x4150,
    0x4160, 0x4170, 0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120, 0x4130,
    0x4140, 0x4150, 0x4160, 0x4170};

static inline __m512 halves(const uint8_t *at) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)at));
}

/* Shift by 4 s, as pairs of bfloat16 in lanes of 32 bits. */
static inline __m512i pairs(__m512i packed, int s, __m512i table) {
    __m512i q = _mm512_and_si512(_mm512_srli_epi16(packed, 4 * s), _mm512_set1_epi16(15));
    return _mm512_permutexvar_epi16(q, table);
}

/* `count` positions times one block of 16 rows. x: bfloat16, out: float32, rows apart by their strides. */
static inline __attribute__((always_inline)) void block4(const uint8_t *w, const uint16_t *x, const float *sums,
                                                         float *out, integer groups, integer rows, const int count) {
    const __m512i table = _mm512_loadu_si512(SMALL);
    const integer columns = groups * GROUP;
    __m512 total[4];
    for (int j = 0; j < count; j++) total[j] = _mm512_setzero_ps();
    for (integer g = 0; g < groups; g++, w += BYTES4) {
        __m512 even[4], odd[4];
        for (int j = 0; j < count; j++) even[j] = odd[j] = _mm512_setzero_ps();
        for (int v = 0; v < 4; v++) {
            const __m512i packed = _mm512_loadu_si512(w + 64 * v);
            _mm_prefetch((const char *)w + 64 * v + 8 * BYTES4, _MM_HINT_T0);
            for (int s = 0; s < 4; s++) {
                const __m512bh q = (__m512bh)pairs(packed, s, table);
                for (int j = 0; j < count; j++) {
                    const int *pair = (const int *)(x + j * columns + g * GROUP) + 4 * v + s;
                    const __m512bh both = (__m512bh)_mm512_set1_epi32(*pair);
                    if (s % 2)
                        odd[j] = _mm512_dpbf16_ps(odd[j], q, both);
                    else
                        even[j] = _mm512_dpbf16_ps(even[j], q, both);
                }
            }
        }
        const __m512 scale = halves(w + 256), low = halves(w + 288);
        for (int j = 0; j < count; j++) {
            total[j] = _mm512_fmadd_ps(_mm512_add_ps(even[j], odd[j]), scale, total[j]);
            total[j] = _mm512_fmadd_ps(_mm512_set1_ps(sums[j * groups + g]), low, total[j]);
        }
    }
    for (int j = 0; j < count; j++) _mm512_storeu_ps(out + j * rows, total[j]);
}

/* As block4; x in float32. */
static inline __attribute__((always_inline)) void block8(const uint8_t *w, const float *x, float *out, integer groups,
                                                         integer rows, const int count) {
    const integer columns = groups * GROUP;
    __m512 total[4];
    for (int j = 0; j < count; j++) total[j] = _mm512_setzero_ps();
    for (integer g = 0; g < groups; g++, w += BYTES8) {
        __m512 even[4], odd[4];
        for (int j = 0; j < count; j++) even[j] = odd[j] = _mm512_setzero_ps();
        for (int c = 0; c < GROUP; c++) {
            if (c % 4 == 0) _mm_prefetch((const char *)w + 16 * c + 6 * BYTES8, _MM_HINT_T0);
            const __m512 q = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(w + 16 * c))));
            for (int j = 0; j < count; j++) {
                const __m512 value = _mm512_set1_ps(x[j * columns + g * GROUP + c]);
                if (c % 2)
                    odd[j] = _mm512_fmadd_ps(q, value, odd[j]);
                else
                    even[j] = _mm512_fmadd_ps(q, value, even[j]);
            }
        }
        const __m512 scale = halves(w + 512);
        for (int j = 0; j < count; j++) total[j] = _mm512_fmadd_ps(_mm512_add_ps(even[j], odd[j]), scale, total[j]);
    }
    for (int j = 0; j < count; j++) _mm512_storeu_ps(out + j * rows, total[j]);
}

static inline float widened(uint16_t bits) {
    union { uint32_t u; float f; } value = {(uint32_t)bits << 16};
    return value.f;
}

/* x: bfloat16 (n, columns); scratch: float32 (n, groups); out: float32 (n, rows). */
void exo_times4(const uint8_t *w, const uint16_t *x, float *scratch, float *out, integer n, integer rows,
                integer groups, int threads) {
    const integer columns = groups * GROUP;
    for (integer i = 0; i < n * groups; i++) {
        float sum = 0;
        for (int c = 0; c < GROUP; c++) sum += widened(x[i * GROUP + c]);
        scratch[i] = sum;
    }
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (integer block = 0; block < rows / ROWS; block++) {
        const uint8_t *at = w + block * groups * BYTES4;
        integer j = 0;
        for (; j + 4 <= n; j += 4)
            block4(at, x + j * columns, scratch + j * groups, out + j * rows + block * ROWS, groups, rows, 4);
        const uint16_t *last = x + j * columns;
        const float *sums = scratch + j * groups;
        float *to = out + j * rows + block * ROWS;
        if (n - j == 3) block4(at, last, sums, to, groups, rows, 3);
        if (n - j == 2) block4(at, last, sums, to, groups, rows, 2);
        if (n - j == 1) block4(at, last, sums, to, groups, rows, 1);
    }
}

/* As exo_times4; scratch: float32 (n, columns). */
void exo_times8(const uint8_t *w, const uint16_t *x, float *scratch, float *out, integer n, integer rows,
                integer groups, int threads) {
    const integer columns = groups * GROUP;
    for (integer i = 0; i < n * columns; i++) scratch[i] = widened(x[i]);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (integer block = 0; block < rows / ROWS; block++) {
        const uint8_t *at = w + block * groups * BYTES8;
        integer j = 0;
        for (; j + 4 <= n; j += 4) block8(at, scratch + j * columns, out + j * rows + block * ROWS, groups, rows, 4);
        const float *last = scratch + j * columns;
        float *to = out + j * rows + block * ROWS;
        if (n - j == 3) block8(at, last, to, groups, rows, 3);
        if (n - j == 2) block8(at, last, to, groups, rows, 2);
        if (n - j == 1) block8(at, last, to, groups, rows, 1);
    }
}

static inline void store(uint16_t *out, __m512 values) {
    _mm256_storeu_si256((__m256i *)out, (__m256i)_mm512_cvtneps_pbh(values));
}

/* `count` blocks of 16 rows from block `first` on, transposed: out bfloat16 (columns, count * 16). */
void exo_unpack4(const uint8_t *w, uint16_t *out, integer first, integer count, integer groups, int threads) {
    const integer width = count * ROWS;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (integer block = 0; block < count; block++) {
        const uint8_t *at = w + (first + block) * groups * BYTES4;
        const __m512i table = _mm512_loadu_si512(SMALL);
        const __m512i upper = _mm512_set1_epi32((int)0xffff0000u);
        for (integer g = 0; g < groups; g++, at += BYTES4) {
            const __m512 scale = halves(at + 256), low = halves(at + 288);
            uint16_t *to = out + g * GROUP * width + block * ROWS;
            for (int v = 0; v < 4; v++) {
                const __m512i packed = _mm512_loadu_si512(at + 64 * v);
                for (int s = 0; s < 4; s++) {
                    const __m512i both = pairs(packed, s, table);
                    const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
                    const __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(both, upper));
                    store(to + (8 * v + 2 * s) * width, _mm512_fmadd_ps(even, scale, low));
                    store(to + (8 * v + 2 * s + 1) * width, _mm512_fmadd_ps(odd, scale, low));
                }
            }
        }
    }
}

/* As exo_unpack4. */
void exo_unpack8(const uint8_t *w, uint16_t *out, integer first, integer count, integer groups, int threads) {
    const integer width = count * ROWS;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (integer block = 0; block < count; block++) {
        const uint8_t *at = w + (first + block) * groups * BYTES8;
        for (integer g = 0; g < groups; g++, at += BYTES8) {
            const __m512 scale = halves(at + 512);
            uint16_t *to = out + g * GROUP * width + block * ROWS;
            for (int c = 0; c < GROUP; c++) {
                const __m128i q = _mm_loadu_si128((const __m128i *)(at + 16 * c));
                store(to + c * width, _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q)), scale));
            }
        }
    }
}

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
