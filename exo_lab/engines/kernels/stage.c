/* A few positions, of one session or of several, through consecutive layers in one call: what decoding does.
 *
 * Nothing here depends on which layers run, nor on how many, nor on how many positions there are: every cut of a model
 * computes the same bits, and so do positions one by one and together. Uses the kernels of matrix.c and step.c;
 * compiled and called by native.py.
 */
#include "packed.h"
#include "vector.h"

void exo_times4(const uint8_t *w, const uint16_t *x, float *scratch, float *out, integer n, integer rows,
                integer groups, int threads);
void exo_times8(const uint8_t *w, const uint16_t *x, float *scratch, float *out, integer n, integer rows,
                integer groups, int threads);
void exo_attend(const float *q, integer apart, const uint16_t *keys, const uint16_t *values, float *scratch,
                uint16_t *out, integer stride, integer position, integer n, integer window, integer heads,
                integer share, integer head_dim, int threads);
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

/* Where a position's session has its cache: bfloat16, the keys of the first layer begin at `cache`, its values
 * `to_values` values later, the next layer's keys `to_next` later; `stride` from one key-value head to the next, rows of
 * head_dim. */
typedef struct {
    uint16_t *cache;
    integer to_values, to_next, stride, position;
} Row;

/* The model's shape, as integers. */
typedef struct {
    integer hidden, inner, heads, groups, head_dim;
} Shape;

static void times(const Matrix *m, const uint16_t *x, float *scratch, float *out, integer n, integer rows,
                  integer columns, int threads) {
    if (m->bits == 4)
        exo_times4(m->packed, x, scratch, out, n, rows, columns / GROUP, threads);
    else
        exo_times8(m->packed, x, scratch, out, n, rows, columns / GROUP, threads);
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
            narrow(to + g * stride + i, _mm512_loadu_ps(from + g * head_dim + i));
}

/* n positions. Those of one session follow each other.
 *
 * table: `layers` Layers. hidden: float32 (n, hidden), changed in place. turns: float32 (n, head_dim), cosine and sine of
 * each pair. rows: where each position's keys and values are kept; they are written. A position sees itself and what is
 * before it, of that the last `window` - 1 if there is a window. scratch: float32, see native_stage.py for its size; no
 * part of it is read before it is written.
 */
void exo_stage(const Layer *table, integer layers, const Shape *shape, float *hidden, const float *turns,
               const Row *rows, integer n, integer window, float *scratch, float eps, int threads) {
    const integer size = shape->hidden, inner = shape->inner, head_dim = shape->head_dim;
    const integer heads = shape->heads, groups = shape->groups, share = heads / groups;
    const integer queries = heads * head_dim, kept = groups * head_dim, all = queries + 2 * kept;
    const integer widest = size > inner ? (size > queries ? size : queries) : (inner > queries ? inner : queries);
    const integer most = 2 * inner > all ? (2 * inner > size ? 2 * inner : size) : (all > size ? all : size);
    float *sums = scratch;                            /* of products: n * widest */
    float *wide = sums + n * widest;                  /* what a product gives: n * most */
    uint16_t *taken = (uint16_t *)(wide + n * most);  /* what a product takes: n * widest, half of that as floats */
    float *scores = wide + n * most + n * widest / 2; /* see exo_attend */
    const float shrink = 1.0f / sqrtf((float)head_dim);
    for (integer l = 0; l < layers; l++) {
        const Layer *layer = table + l;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && n > FEW)
        for (integer j = 0; j < n; j++) exo_norm(hidden + j * size, layer->attn_norm, taken + j * size, size, eps);
        times(&layer->qkv, taken, sums, wide, n, all, size, threads);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && n > FEW)
        for (integer j = 0; j < n; j++) {
            float *row = wide + j * all;
            if (layer->bias) add(row, layer->bias, all);
            if (layer->q_norm) norm_heads(row, layer->q_norm, heads, head_dim, eps);
            if (layer->k_norm) norm_heads(row + queries, layer->k_norm, groups, head_dim, eps);
            turn_heads(row, turns + j * head_dim, shrink, heads, head_dim);
            turn_heads(row + queries, turns + j * head_dim, 1.0f, groups, head_dim);
            uint16_t *at = rows[j].cache + l * rows[j].to_next + rows[j].position * head_dim;
            keep(at, row + queries, groups, head_dim, rows[j].stride);
            keep(at + rows[j].to_values, row + queries + kept, groups, head_dim, rows[j].stride);
        }
        for (integer j = 0, next; j < n; j = next) {
            for (next = j + 1; next < n && rows[next].cache == rows[j].cache;) next++; /* of one session */
            const uint16_t *keys = rows[j].cache + l * rows[j].to_next;
            exo_attend(wide + j * all, all, keys, keys + rows[j].to_values, scores, taken + j * queries,
                       rows[j].stride, rows[j].position, next - j, window, heads, share, head_dim, threads);
        }
        times(&layer->output, taken, sums, wide, n, size, queries, threads);
        add(hidden, wide, n * size);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && n > FEW)
        for (integer j = 0; j < n; j++) exo_norm(hidden + j * size, layer->ffn_norm, taken + j * size, size, eps);
        times(&layer->gate_up, taken, sums, wide, n, 2 * inner, size, threads);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && n > FEW)
        for (integer j = 0; j < n; j++) exo_gate(wide + j * 2 * inner, taken + j * inner, inner);
        times(&layer->down, taken, sums, wide, n, size, inner, threads);
        add(hidden, wide, n * size);
    }
}
