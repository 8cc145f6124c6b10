/* How weights lie in memory, and how they are taken out.
 *
 * A weight is w = q * scale + low with q in 0..15 (four bits; low = 0 and q in -128..127 for eight), one float16 scale
 * (and low) for 32 weights of a row. 16 rows lie together: lane i of a register belongs to row i. For every group of 32
 * columns there follow
 *   four bits:  256 bytes of q, 16 float16 scales, 16 float16 lows;
 *   eight bits: 512 bytes of q (16 of column 0, 16 of column 1, ...), 16 float16 scales.
 * Four bits: 16-bit word c % 2 of lane i of register v holds columns 8 v + 2 s + (c % 2), s = 0..3, at bits 4 s.
 */
#ifndef EXO_PACKED_H
#define EXO_PACKED_H

#include <immintrin.h>
#include <stdint.h>

#define ROWS 16
#define GROUP 32
#define PAIRS (GROUP / 2)
#define FEW 4 /* positions up to which unpacking again costs less than writing down */
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

/* Four bits, shifted by 4 s, as pairs of bfloat16 in lanes of 32 bits. */
static inline __m512i pairs4(__m512i packed, int s, __m512i table) {
    __m512i q = _mm512_and_si512(_mm512_srli_epi16(packed, 4 * s), _mm512_set1_epi16(15));
    return _mm512_permutexvar_epi16(q, table);
}

/* Eight bits: two columns as pairs of bfloat16, which holds -128..127 exactly. */
static inline __m512i pairs8(const uint8_t *at) {
    const __m512 even = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)at)));
    const __m512 odd = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(at + ROWS))));
    return _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(even), 16), _mm512_castps_si512(odd));
}

/* The same pair of values of one position in every lane. */
static inline __m512bh pair_of(const uint16_t *x) {
    return (__m512bh)_mm512_set1_epi32(*(const int *)x);
}

#endif
