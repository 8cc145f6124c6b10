/* One position through consecutive layers, in one call: what decoding does for every token.
 *
 * Nothing here depends on which layers run, nor on how many: every cut of a model computes the same bits. Uses the
 * kernels of matrix.c and step.c; compiled and called by native.py.
 */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>

#define LANES 16
#define GROUP 32

typedef long long integer;

void exo_times4(const uint8_t *w, const uint16_t *x, float *scratch, float *out, integer n, integer rows,
                integer groups, int threads);
void exo_times8(const uint8_t *w, const uint16_t *x, float *scratch, float *out, integer n, integer rows,
                integer groups, int threads);
void exo_attend(const float *q, const uint16_t *keys, const uint16_t *values, float *scratch, uint16_t *out,
                integer stride, integer length, integer heads, integer share, integer head_dim, int threads);
void exo_norm(const float *x, const float *weight, uint16_t *out, integer size, float eps);
void exo_gate(const float *x, uint16_t *out, integer size);

/* One matrix: packed weights and how many bits a weight has. */
typedef struct {
    const uint8_t *packed;
    integer bits;
} Matrix;

/* Every field has the size of an integer: native.py writes a table of them. Absent vectors are null. */
typedef struct {
    Matrix qkv, output, gate_up, down;
    const float *attn_norm, *ffn_norm, *bias, *q_norm, *k_norm;
} Layer;

/* The model's shape, as integers. */
typedef struct {
    integer hidden, inner, heads, groups, head_dim;
} Shape;

static void times(const Matrix *m, const uint16_t *x, float *scratch, float *out, integer rows, integer columns,
                  int threads) {
    if (m->bits == 4)
        exo_times4(m->packed, x, scratch, out, 1, rows, columns / GROUP, threads);
    else
        exo_times8(m->packed, x, scratch, out, 1, rows, columns / GROUP, threads);
}

static void add(float *to, const float *what, integer size) {
    for (integer i = 0; i < size; i += LANES)
        _mm512_storeu_ps(to + i, _mm512_add_ps(_mm512_loadu_ps(to + i), _mm512_loadu_ps(what + i)));
}

/* RMSNorm of `count` heads in place; head_dim: a multiple of 16. */
static void norm_heads(float *x, const float *weight, integer count, integer head_dim, float eps) {
    for (integer h = 0; h < count; h++, x += head_dim) {
        __m512 sum = _mm512_setzero_ps();
        for (integer i = 0; i < head_dim; i += LANES) {
            const __m512 value = _mm512_loadu_ps(x + i);
            sum = _mm512_fmadd_ps(value, value, sum);
        }
        const __m512 scale = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(sum) / (float)head_dim + eps));
        for (integer i = 0; i < head_dim; i += LANES)
            _mm512_storeu_ps(x + i, _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), scale),
                                                  _mm512_loadu_ps(weight + i)));
    }
}

/* Rotary embedding (Su et al. 2021) of interleaved pairs, and a scale: (a + ib)(c + is) for each pair. */
static void turn_heads(float *x, const float *turn, float scale, integer count, integer head_dim) {
    for (integer h = 0; h < count; h++, x += head_dim)
        for (integer i = 0; i < head_dim; i += LANES) {
            const __m512 value = _mm512_loadu_ps(x + i), t = _mm512_loadu_ps(turn + i);
            const __m512 cosines = _mm512_moveldup_ps(t), sines = _mm512_movehdup_ps(t);
            const __m512 swapped = _mm512_permute_ps(value, 0xb1);
            /* even lanes: a c - b s, odd lanes: b c + a s */
            const __m512 turned = _mm512_fmaddsub_ps(value, cosines, _mm512_mul_ps(swapped, sines));
            _mm512_storeu_ps(x + i, _mm512_mul_ps(turned, _mm512_set1_ps(scale)));
        }
}

static void keep(uint16_t *to, const float *from, integer count, integer head_dim, integer stride) {
    for (integer g = 0; g < count; g++)
        for (integer i = 0; i < head_dim; i += LANES)
            _mm256_storeu_si256((__m256i *)(to + g * stride + i),
                                (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from + g * head_dim + i)));
}

/* table: `layers` Layers. hidden: float32 (hidden), changed in place. turn: float32 (head_dim), cosine and sine of each
 * pair. cache: bfloat16, where the keys of the first layer begin that the position may see, `to_values` values before
 * its values, `to_next` before the next layer's keys, `stride` from one key-value head to the next; `length` rows, the
 * last of which is this position's and is written. scratch: float32, see native.py for its size; no part of it is read
 * before it is written.
 */
void exo_stage(const Layer *table, integer layers, const Shape *shape, float *hidden, const float *turn,
               uint16_t *cache, integer to_values, integer to_next, integer stride, integer length, float *scratch,
               float eps, int threads) {
    const integer size = shape->hidden, inner = shape->inner, head_dim = shape->head_dim;
    const integer heads = shape->heads, groups = shape->groups, share = heads / groups;
    const integer queries = heads * head_dim, kept = groups * head_dim;
    const integer widest = size > inner ? (size > queries ? size : queries) : (inner > queries ? inner : queries);
    float *sums = scratch;                 /* of a product: widest */
    float *wide = sums + widest;           /* what a product gives: qkv, gate and up */
    const integer most = 2 * inner > queries + 2 * kept ? 2 * inner : queries + 2 * kept;
    float *narrow = wide + (most > size ? most : size); /* what a product takes, in bfloat16 */
    uint16_t *taken = (uint16_t *)narrow;
    float *scores = narrow + widest; /* heads * (length + 15) */
    const float shrink = 1.0f / sqrtf((float)head_dim);
    for (integer l = 0; l < layers; l++, cache += to_next) {
        const Layer *layer = table + l;
        exo_norm(hidden, layer->attn_norm, taken, size, eps);
        times(&layer->qkv, taken, sums, wide, queries + 2 * kept, size, threads);
        if (layer->bias) add(wide, layer->bias, queries + 2 * kept);
        if (layer->q_norm) norm_heads(wide, layer->q_norm, heads, head_dim, eps);
        if (layer->k_norm) norm_heads(wide + queries, layer->k_norm, groups, head_dim, eps);
        turn_heads(wide, turn, shrink, heads, head_dim);
        turn_heads(wide + queries, turn, 1.0f, groups, head_dim);
        uint16_t *at = cache + (length - 1) * head_dim;
        keep(at, wide + queries, groups, head_dim, stride);
        keep(at + to_values, wide + queries + kept, groups, head_dim, stride);
        exo_attend(wide, cache, cache + to_values, scores, taken, stride, length, heads, share, head_dim, threads);
        times(&layer->output, taken, sums, wide, size, queries, threads);
        add(hidden, wide, size);
        exo_norm(hidden, layer->ffn_norm, taken, size, eps);
        times(&layer->gate_up, taken, sums, wide, 2 * inner, size, threads);
        exo_gate(wide, taken, inner);
        times(&layer->down, taken, sums, wide, size, inner, threads);
        add(hidden, wide, size);
    }
}
