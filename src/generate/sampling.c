/* The filters of a choice, sorting only what they keep. */
#include "generate/sampling.h"

#include "base/mem.h"
#include <assert.h>
#include <math.h>
#include <string.h>

/* In float32 a log-softmax may round to a little above 0. */
static const double LOGP_LIMIT = 1e-3;

enum status sampler_create(struct sampler *s, const struct sampling *how, int64_t vocab,
                           struct error *err)
{
    enum status status = STATUS_OK;
    assert(vocab >= 1 && how->temperature >= 0 && how->top_k >= 0);
    assert(how->top_p > 0 && how->top_p <= 1 && how->min_p >= 0 && how->min_p <= 1);
    assert(how->repeat_penalty > 0 && how->repeat_last >= 0);
    *s = (struct sampler){.how = *how, .vocab = vocab};
    TRY_OUT(mem_alloc((void **)&s->score, (size_t)vocab, sizeof *s->score, err));
    TRY_OUT(mem_alloc((void **)&s->prob, (size_t)vocab, sizeof *s->prob, err));
    TRY_OUT(mem_alloc((void **)&s->heap, (size_t)vocab, sizeof *s->heap, err));
    TRY_OUT(mem_alloc((void **)&s->seen, (size_t)vocab, sizeof *s->seen, err));
    return STATUS_OK;
out:
    sampler_free(s);
    return status;
}

void sampler_free(struct sampler *s)
{
    mem_free(s->score);
    mem_free(s->prob);
    mem_free(s->heap);
    mem_free(s->seen);
    *s = (struct sampler){0};
}

static enum status check_numbers(const struct sampler *s, const double *logp, struct error *err)
{
    for (int64_t i = 0; i < s->vocab; i++)
        if (!(logp[i] <= LOGP_LIMIT))
            return error_set(err, STATUS_CHECK,
                             "log-probability of token %lld is %g: the model's numbers ran out of "
                             "range; its weights are not usable",
                             (long long)i, logp[i]);
    return STATUS_OK;
}

/* Penalises each of the last tokens once, however often it stands there. */
static void penalise(struct sampler *s, const struct sampler_input *in)
{
    double penalty = s->how.repeat_penalty;
    int64_t count = in->recent_count < s->how.repeat_last ? in->recent_count : s->how.repeat_last;
    const int32_t *last = in->recent + (in->recent_count - count);
    for (int64_t i = 0; i < count && penalty != 1; i++) {
        int32_t token = last[i];
        double logit = s->score[token] + in->log_sum;
        if (s->seen[token])
            continue;
        s->seen[token] = true;
        s->score[token] = (logit > 0 ? logit / penalty : logit * penalty) - in->log_sum;
    }
    for (int64_t i = 0; i < count && penalty != 1; i++)
        s->seen[last[i]] = false;
}

/* Returns the most probable token that is not excluded. */
static int64_t find_top(const struct sampler *s)
{
    int64_t top = -1;
    for (int64_t i = 0; i < s->vocab; i++)
        if ((i != s->how.excluded || s->vocab == 1) && (top < 0 || s->score[i] > s->score[top]))
            top = i;
    return top;
}

static bool before(const struct sampler *s, int32_t a, int32_t b)
{
    return s->prob[a] != s->prob[b] ? s->prob[a] > s->prob[b] : a < b;
}

static void sift_down(struct sampler *s, int64_t at, int64_t count)
{
    int32_t *heap = s->heap, moved = heap[at];
    for (int64_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && before(s, heap[child + 1], heap[child]))
            child++;
        if (!before(s, heap[child], moved))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

/* Sorts the tokens that top-k and top-p keep into the end of the heap's array, the most probable
 * one last. Returns their number, and in *mass the sum of their probabilities. top-p applies to
 * what top-k leaves. */
static int64_t keep_best(struct sampler *s, double total, double *mass)
{
    int64_t left = s->vocab, limit = s->how.top_k > 0 ? s->how.top_k : s->vocab, kept = 0;
    for (int64_t i = 0; i < s->vocab; i++)
        s->heap[i] = (int32_t)i;
    for (int64_t i = s->vocab / 2 - 1; i >= 0; i--)
        sift_down(s, i, s->vocab);
    /* without top-k the sum that top-p asks for is known, so that sorting can stop there */
    double sum = 0, enough = s->how.top_k == 0 ? s->how.top_p * total : INFINITY;
    while (left > 0 && s->vocab - left < limit && sum < enough) {
        int32_t best = s->heap[0];
        sum += s->prob[best];
        s->heap[0] = s->heap[--left];
        if (left > 0)
            sift_down(s, 0, left);
        s->heap[left] = best;
    }
    *mass = sum;
    if (s->how.top_k == 0 || s->how.top_p == 1)
        return s->vocab - left;
    for (*mass = 0; kept < s->vocab - left && *mass < s->how.top_p * sum;)
        *mass += s->prob[s->heap[s->vocab - 1 - kept++]];
    return kept;
}

/* The token at which the running sum over `count` tokens exceeds `target`. If rounding keeps the
 * sum below it, the last token that has a probability. */
static int32_t walk(const struct sampler *s, int64_t count, double target, bool filtered)
{
    int32_t last = 0;
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        int32_t token = filtered ? s->heap[s->vocab - 1 - i] : (int32_t)i;
        if (!(s->prob[token] > 0))
            continue;
        last = token;
        sum += s->prob[token];
        if (sum > target)
            break;
    }
    return last;
}

/* Applies min-p and the temperature to the `count` tokens that are left. Returns the sum of their
 * weights. `top` is the most probable one. */
static double reweigh(struct sampler *s, int64_t count, double top, bool filtered)
{
    double sum = 0, temperature = s->how.temperature;
    for (int64_t i = 0; i < count; i++) {
        int32_t token = filtered ? s->heap[s->vocab - 1 - i] : (int32_t)i;
        double *prob = &s->prob[token];
        if (*prob < s->how.min_p) /* in units of the top's */
            *prob = 0;
        else if (*prob > 0 && temperature != 1)
            *prob = exp((s->score[token] - top) / temperature);
        sum += *prob;
    }
    return sum;
}

enum status sampler_pick(struct sampler *s, const struct sampler_input *in, int32_t *token,
                         struct error *err)
{
    int64_t count = s->vocab;
    TRY(check_numbers(s, in->logp, err));
    memcpy(s->score, in->logp, (size_t)s->vocab * sizeof *s->score);
    penalise(s, in);
    int64_t top = find_top(s);
    double best = s->score[top], total = 0;
    *token = (int32_t)top;
    if (s->how.temperature == 0 || !(best > -INFINITY))
        return STATUS_OK;
    for (int64_t i = 0; i < s->vocab; i++) {
        bool barred = i == s->how.excluded && i != top;
        s->prob[i] = barred ? 0 : exp(s->score[i] - best);
        total += s->prob[i];
    }
    bool filtered = (s->how.top_k > 0 && s->how.top_k < s->vocab) || s->how.top_p < 1;
    if (filtered)
        count = keep_best(s, total, &total);
    if (s->how.min_p > 0 || s->how.temperature != 1)
        total = reweigh(s, count, best, filtered);
    *token = walk(s, count, in->u * total, filtered);
    return STATUS_OK;
}
