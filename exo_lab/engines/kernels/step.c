/* What is done between matrix products, for one position: RMSNorm and the SiLU gate.
 *
 * Compiled and called by native.py, with the others.
 */
#include "vector.h"

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
