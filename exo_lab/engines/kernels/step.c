/* What a decode step does between matrix products, for one position: RMSNorm, attention over a bfloat16 cache, SiLU gate.
 *
 * Sums run in one order whatever the number of threads is. Compiled and called by native.py, with matrix.c.
 */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>

#define LANES 16
#define MOST_CHUNKS 16 /* head_dim up to 256 */

typedef long long integer;

static inline __m512 widen(const uint16_t *at) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)at)), 16));
}

static inline void narrow(uint16_t *to, __m512 values) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(values));
}

/* exp(x) to about 1e-7, for x <= 0 or moderate: 2^(x / ln 2) split into an integer and a polynomial of the rest. */
static inline __m512 exponential(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-104.0f));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    /* Coefficients of Cephes' expf (Moshier). */
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), p, _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
    return _mm512_scalef_ps(p, n);
}

/* One head: q float32 (head_dim); keys, values bfloat16 (length, head_dim); scores: scratch (length + 15). */
static inline __attribute__((always_inline)) void head(const float *q, const uint16_t *keys, const uint16_t *values,
                                                       float *scores, uint16_t *out, integer length,
                                                       const int chunks) {
    const integer head_dim = chunks * LANES;
    __m512 part[MOST_CHUNKS];
    for (int c = 0; c < chunks; c++) part[c] = _mm512_loadu_ps(q + c * LANES);
    float most = -INFINITY;
    for (integer t = 0; t < length; t++) {
        __m512 sum = _mm512_mul_ps(part[0], widen(keys + t * head_dim));
        for (int c = 1; c < chunks; c++) sum = _mm512_fmadd_ps(part[c], widen(keys + t * head_dim + c * LANES), sum);
        scores[t] = _mm512_reduce_add_ps(sum);
        if (scores[t] > most) most = scores[t];
    }
    for (integer t = length; t % LANES; t++) scores[t] = -INFINITY; /* exp makes them (nearly) nothing; unused below */
    __m512 sums = _mm512_setzero_ps();
    for (integer t = 0; t < length; t += LANES) {
        const __mmask16 there = length - t >= LANES ? 0xffff : (__mmask16)((1 << (length - t)) - 1);
        const __m512 e = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + t), _mm512_set1_ps(most)));
        sums = _mm512_mask_add_ps(sums, there, sums, e);
        _mm512_storeu_ps(scores + t, e);
    }
    const __m512 share = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(sums));
    for (int c = 0; c < chunks; c++) part[c] = _mm512_setzero_ps();
    for (integer t = 0; t < length; t++) {
        const __m512 weight = _mm512_set1_ps(scores[t]);
        for (int c = 0; c < chunks; c++)
            part[c] = _mm512_fmadd_ps(weight, widen(values + t * head_dim + c * LANES), part[c]);
    }
    for (int c = 0; c < chunks; c++) narrow(out + c * LANES, _mm512_mul_ps(part[c], share));
}

/* Grouped-query attention of one position.
 *
 * q: float32 (heads, head_dim), scaled. keys, values: bfloat16, `stride` values from one key-value head to the next,
 * `length` rows of head_dim each. scratch: float32 (heads, length + 15). out: bfloat16 (heads, head_dim).
 * head_dim: a multiple of 16, at most 256.
 */
void exo_attend(const float *q, const uint16_t *keys, const uint16_t *values, float *scratch, uint16_t *out,
                integer stride, integer length, integer heads, integer share, integer head_dim, int threads) {
    const int chunks = (int)(head_dim / LANES);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && heads * length > 8192)
    for (integer h = 0; h < heads; h++) {
        const uint16_t *k = keys + h / share * stride, *v = values + h / share * stride;
        float *scores = scratch + h * (length + LANES - 1);
        uint16_t *to = out + h * head_dim;
        if (chunks == 4)
            head(q + h * head_dim, k, v, scores, to, length, 4);
        else if (chunks == 8)
            head(q + h * head_dim, k, v, scores, to, length, 8);
        else
            head(q + h * head_dim, k, v, scores, to, length, chunks);
    }
}

/* RMSNorm (Zhang and Sennrich 2019): x, weight float32 (size), out bfloat16 (size). size: a multiple of 16. */
void exo_norm(const float *x, const float *weight, uint16_t *out, integer size, float eps) {
    __m512 even = _mm512_setzero_ps(), odd = even;
    for (integer i = 0; i < size; i += LANES) {
        const __m512 value = _mm512_loadu_ps(x + i);
        if (i / LANES % 2)
            odd = _mm512_fmadd_ps(value, value, odd);
        else
            even = _mm512_fmadd_ps(value, value, even);
    }
    const float mean = _mm512_reduce_add_ps(_mm512_add_ps(even, odd)) / (float)size;
    const __m512 scale = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_sqrt_ps(_mm512_set1_ps(mean + eps)));
    for (integer i = 0; i < size; i += LANES)
        narrow(out + i, _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), scale), _mm512_loadu_ps(weight + i)));
}

/* silu(gate) * up: x float32, gate then up (2 * size); out bfloat16 (size). size: a multiple of 16. */
void exo_gate(const float *x, uint16_t *out, integer size) {
    const __m512 one = _mm512_set1_ps(1.0f);
    for (integer i = 0; i < size; i += LANES) {
        const __m512 gate = _mm512_loadu_ps(x + i), up = _mm512_loadu_ps(x + size + i);
        /* exp is bounded from below only: beyond exp(88) the quotient is zero anyhow. */
        const __m512 minus = _mm512_min_ps(_mm512_sub_ps(_mm512_setzero_ps(), gate), _mm512_set1_ps(88.0f));
        const __m512 silu = _mm512_div_ps(gate, _mm512_add_ps(one, exponential(minus)));
        narrow(out + i, _mm512_mul_ps(silu, up));
    }
}
