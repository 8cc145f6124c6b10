/* Grouped-query attention over a bfloat16 cache, of positions that follow each other.
 *
 * Queries that share keys are computed a few together, so that keys and values are read and widened once for all of them.
 * A query's sums run in one order whatever goes together with it, and whatever the number of threads is. Compiled and
 * called by native.py, with the others.
 */
#include "vector.h"
#ifdef _OPENMP
#include <omp.h>
#endif

#define TOGETHER 4     /* queries: with four registers each they fill half of the 32 */
#define MOST_CHUNKS 16 /* head_dim up to 256 */

/* One query: of float32 (head_dim); it sees rows [begin, end) of keys and values; scores: one a row that anybody sees. */
typedef struct {
    const float *q;
    integer begin, end;
    float *scores;
    uint16_t *out;
} Query;

static inline integer least(integer a, integer b) { return a < b ? a : b; }
static inline integer largest(integer a, integer b) { return a > b ? a : b; }

/* Sixteen sums of sixteen lanes, each in the order of _mm512_reduce_add_ps: halves, quarters, pairs, neighbours. */
static inline __m512 sums_of(const __m512 v[LANES]) {
    __m512 a[8], b[4], c[2];
    for (int i = 0; i < 8; i++)
        a[i] = _mm512_add_ps(_mm512_shuffle_f32x4(v[i], v[i + 8], 0x44), _mm512_shuffle_f32x4(v[i], v[i + 8], 0xee));
    for (int i = 0; i < 4; i++)
        b[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a[i], a[i + 4], 0x88), _mm512_shuffle_f32x4(a[i], a[i + 4], 0xdd));
    for (int i = 0; i < 2; i++) {
        const __m512d p = _mm512_castps_pd(b[i]), q = _mm512_castps_pd(b[i + 2]);
        c[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(p, q)), _mm512_castpd_ps(_mm512_unpackhi_pd(p, q)));
    }
    const __m512 sums = _mm512_add_ps(_mm512_shuffle_ps(c[0], c[1], 0x88), _mm512_shuffle_ps(c[0], c[1], 0xdd));
    /* Lane 4 k + m is the sum of v[...]: k chose a half of 16 and of 8, m of 2 and of 4. */
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15), sums);
}

/* Scores of rows [begin, end) for all queries; the first is kept at scores[0]. */
static inline __attribute__((always_inline)) void score(const Query *query, const uint16_t *keys, integer begin,
                                                        integer end, const int count, const int chunks) {
    const integer head_dim = chunks * LANES;
    __m512 q[TOGETHER][MOST_CHUNKS];
    for (int i = 0; i < count; i++)
        for (int c = 0; c < chunks; c++) q[i][c] = _mm512_loadu_ps(query[i].q + c * LANES);
    for (integer from = begin; from < end; from += LANES) {
        __m512 products[TOGETHER][LANES];
        const integer rows = least(LANES, end - from);
        for (integer t = 0; t < rows; t++) {
            const uint16_t *key = keys + (from + t) * head_dim;
            __m512 sum[TOGETHER];
            for (int c = 0; c < chunks; c++) {
                const __m512 part = widen(key + c * LANES);
                for (int i = 0; i < count; i++)
                    sum[i] = c ? _mm512_fmadd_ps(q[i][c], part, sum[i]) : _mm512_mul_ps(q[i][c], part);
            }
            for (int i = 0; i < count; i++) products[i][t] = sum[i];
        }
        for (int i = 0; i < count; i++)
            for (integer t = rows; t < LANES; t++) products[i][t] = _mm512_setzero_ps();
        for (int i = 0; i < count; i++) _mm512_storeu_ps(query[i].scores + from - begin, sums_of(products[i]));
    }
}

/* Scores become weights that are not divided by their sum yet; returns one over that. */
static inline float softmax(float *scores, integer length) {
    __m512 most = _mm512_set1_ps(-INFINITY), sums = _mm512_setzero_ps();
    for (integer t = 0; t < length; t += LANES)
        most = _mm512_mask_max_ps(most, within(length - t), most, _mm512_loadu_ps(scores + t));
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (integer t = 0; t < length; t += LANES) {
        const __mmask16 there = within(length - t);
        const __m512 e = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + t), top));
        sums = _mm512_mask_add_ps(sums, there, sums, e);
        _mm512_mask_storeu_ps(scores + t, there, e);
    }
    return 1.0f / _mm512_reduce_add_ps(sums);
}

/* Weighted rows [begin, end) of values onto the totals of `count` queries. weights[i][t]: of row t. */
static inline __attribute__((always_inline)) void weigh(__m512 (*total)[MOST_CHUNKS], float *const *weights,
                                                        const uint16_t *values, integer begin, integer end,
                                                        const int count, const int chunks) {
    for (integer t = begin; t < end; t++) {
        __m512 weight[TOGETHER];
        for (int i = 0; i < count; i++) weight[i] = _mm512_set1_ps(weights[i][t]);
        for (int c = 0; c < chunks; c++) {
            const __m512 part = widen(values + (t * chunks + c) * LANES);
            for (int i = 0; i < count; i++) total[i][c] = _mm512_fmadd_ps(weight[i], part, total[i][c]);
        }
    }
}

static inline __attribute__((always_inline)) void attend(const Query *query, const uint16_t *keys,
                                                         const uint16_t *values, const int count, const int chunks) {
    integer low = query[0].begin, high = query[0].end, all_begun = low, none_ended = high;
    for (int i = 1; i < count; i++) {
        low = least(low, query[i].begin), high = largest(high, query[i].end);
        all_begun = largest(all_begun, query[i].begin), none_ended = least(none_ended, query[i].end);
    }
    score(query, keys, low, high, count, chunks);
    /* Rows that only some see come before or after those that all see. */
    if (all_begun >= none_ended) all_begun = none_ended = high;
    __m512 total[TOGETHER][MOST_CHUNKS];
    float *weights[TOGETHER], share[TOGETHER];
    for (int i = 0; i < count; i++) {
        const Query *one = query + i;
        weights[i] = one->scores - low;
        share[i] = softmax(weights[i] + one->begin, one->end - one->begin);
        for (int c = 0; c < chunks; c++) total[i][c] = _mm512_setzero_ps();
        weigh(total + i, weights + i, values, one->begin, least(all_begun, one->end), 1, chunks);
    }
    weigh(total, weights, values, all_begun, none_ended, count, chunks);
    for (int i = 0; i < count; i++) {
        weigh(total + i, weights + i, values, none_ended, query[i].end, 1, chunks);
        for (int c = 0; c < chunks; c++) narrow(query[i].out + c * LANES, _mm512_mul_ps(total[i][c], _mm512_set1_ps(share[i])));
    }
}

#define COUNTS(chunks)                                                                                                \
    switch (count) {                                                                                                  \
    case 4: attend(query, keys, values, 4, chunks); break;                                                            \
    case 3: attend(query, keys, values, 3, chunks); break;                                                            \
    case 2: attend(query, keys, values, 2, chunks); break;                                                            \
    default: attend(query, keys, values, 1, chunks); break;                                                           \
    }                                                                                                                 \
    return

static void attend_any(const Query *query, const uint16_t *keys, const uint16_t *values, int count, int chunks) {
    if (chunks == 4) { COUNTS(4); }
    if (chunks == 8) {
        for (; count > 2; count -= 2, query += 2) attend(query, keys, values, 2, 8);
        COUNTS(8);
    }
    for (int i = 0; i < count; i++) attend(query + i, keys, values, 1, chunks);
}

/* Positions [position, position + n) of one session.
 *
 * q: float32, heads * head_dim a position, scaled, `apart` floats from one position to the next. keys, values: bfloat16, of
 * position 0 on, rows of head_dim, `stride` values from one key-value head to the next. `share` heads have one of these. A
 * position sees itself and what is before it, of that the last `window` - 1 if there is a window. scratch: float32, for
 * each thread 4 * (position + n + 15), or 4 * (window + n + 15) if that is less. out: bfloat16 (n, heads * head_dim).
 * head_dim: a multiple of 16, at most 256.
 */
void exo_attend(const float *q, integer apart, const uint16_t *keys, const uint16_t *values, float *scratch,
                uint16_t *out, integer stride, integer position, integer n, integer window, integer heads,
                integer share, integer head_dim, int threads) {
    const integer groups = heads / share, queries = n * share, blocks = (queries + TOGETHER - 1) / TOGETHER;
    const integer before = window && window - 1 < position ? window - 1 : position, room = before + n + LANES - 1;
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1 && heads * n * before > 8192)
    for (integer unit = 0; unit < groups * blocks; unit++) {
        const integer group = unit % groups, first = unit / groups * TOGETHER;
        const int count = (int)least(TOGETHER, queries - first);
#ifdef _OPENMP
        float *own = scratch + omp_get_thread_num() * TOGETHER * room;
#else
        float *own = scratch;
#endif
        Query query[TOGETHER];
        for (int i = 0; i < count; i++) {
            const integer j = (first + i) / share, head = group * share + (first + i) % share;
            const integer end = position + j + 1;
            query[i] = (Query){q + j * apart + head * head_dim, window && end > window ? end - window : 0, end,
                               own + i * room, out + (j * heads + head) * head_dim};
        }
        attend_any(query, keys + group * stride, values + group * stride, count, (int)(head_dim / LANES));
    }
}
