/* Calls SentencePiece. No exception leaves this file, and nothing is printed. */
extern "C" {
#include "base/mem.h"
}
#include "data/sentencepiece_shim.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <unordered_map>

using sentencepiece::ImmutableSentencePieceText;
using sentencepiece::SentencePieceProcessor;
using sentencepiece::SentencePieceTrainer;

struct spm {
    SentencePieceProcessor processor;
};

namespace
{

enum status no_memory(struct error *err)
{
    return error_set(err, STATUS_NOMEM, "out of memory in SentencePiece");
}

enum status broken(struct error *err, const char *what)
{
    return error_set(err, STATUS_INTERNAL, "SentencePiece: %s", what);
}

/* The lines of the sample, one after the other. */
class Lines : public sentencepiece::SentenceIterator
{
  public:
    Lines(const char *text, size_t size) : at_(text), end_(text + size)
    {
        Next();
    }
    bool done() const override
    {
        return done_;
    }
    void Next() override
    {
        done_ = at_ == end_;
        if (done_)
            return;
        const char *stop = static_cast<const char *>(std::memchr(at_, '\n', end_ - at_));
        line_.assign(at_, stop);
        at_ = stop + 1;
    }
    const std::string &value() const override
    {
        return line_;
    }
    sentencepiece::util::Status status() const override
    {
        return sentencepiece::util::Status();
    }

  private:
    const char *at_, *end_;
    std::string line_;
    bool done_ = false;
};

/* The number behind `mark` in the message, or -1. */
long long number_behind(const std::string &message, const char *mark)
{
    size_t at = message.find(mark);
    if (at == std::string::npos)
        return -1;
    const char *digits = message.c_str() + at + std::strlen(mark);
    char *end;
    long long n = std::strtoll(digits, &end, 10);
    return end == digits ? -1 : n;
}

/* Says in words of this program what the trainer says of its options. */
enum status refuse(const spm_training *t, const std::string &message, struct error *err)
{
    const long long wanted = t->pieces;
    long long most = number_behind(message, "value <= ");
    if (most > 0)
        return error_set(err, STATUS_DATA,
                         "--subwords %lld: the text has too little for so many pieces: at most "
                         "%lld, or more text",
                         wanted, most);
    if (message.find("required_chars") != std::string::npos) {
        long long least = number_behind(message, " vs ");
        return error_set(err, STATUS_DATA,
                         "--subwords %lld: too few pieces for the 256 bytes and the characters of "
                         "the text: at least %lld",
                         wanted, least > 0 ? least : wanted + 1);
    }
    return broken(err, message.c_str());
}

enum status train(const spm_training *t, std::string *model, struct error *err)
{
    Lines lines(t->lines, t->size);
    const std::unordered_map<std::string, std::string> options = {
        {"minloglevel", "4"}, /* stderr is the caller's */
        {"model_type", t->type},
        {"vocab_size", std::to_string(t->pieces)},
        {"normalization_rule_name", "identity"},
        {"add_dummy_prefix", "false"},
        {"remove_extra_whitespaces", "false"},
        {"byte_fallback", "true"},
        {"split_digits", "true"},
        {"allow_whitespace_only_pieces", "true"},
        {"character_coverage", "0.9999"},
        {"required_chars", "\xE2\x96\x81"}, /* a blank, whatever the sample has */
        {"max_sentence_length", std::to_string(SPM_LINE_MAX)},
        {"bos_id", "-1"}, /* every token is one of the text */
        {"eos_id", "-1"},
        {"pad_id", "-1"},
        {"num_threads", "16"}, /* the model depends on it, so that it is the same everywhere */
    };
    const auto status = SentencePieceTrainer::Train(options, &lines, model);
    return status.ok() ? STATUS_OK : refuse(t, status.error_message(), err);
}

enum status grow(spm_pieces *p, size_t wanted, struct error *err)
{
    void *ids = p->ids, *ends = p->ends;
    if (wanted <= p->capacity)
        return STATUS_OK;
    TRY(mem_grow(&ids, 0, 2 * wanted, sizeof *p->ids, err));
    p->ids = static_cast<int32_t *>(ids);
    p->capacity = 0;
    TRY(mem_grow(&ends, 0, 2 * wanted, sizeof *p->ends, err));
    p->ends = static_cast<uint32_t *>(ends);
    p->capacity = 2 * wanted;
    return STATUS_OK;
}

enum status encode(const spm *s, spm_pieces *p, const char *text, size_t size, bool ends,
                   struct error *err)
{
    if (p->proto == nullptr)
        p->proto = new ImmutableSentencePieceText;
    auto *proto = static_cast<ImmutableSentencePieceText *>(p->proto);
    const auto status = s->processor.Encode(absl::string_view(text, size), proto->mutable_proto());
    if (!status.ok())
        return broken(err, status.error_message());
    const size_t n = proto->pieces_size();
    TRY(grow(p, n, err));
    for (size_t i = 0; i < n; i++) {
        const auto piece = proto->pieces(static_cast<int>(i));
        p->ids[i] = static_cast<int32_t>(piece.id());
        if (ends)
            p->ends[i] = piece.end();
    }
    p->count = static_cast<int64_t>(n);
    return STATUS_OK;
}

} // namespace

extern "C" {

enum status spm_check(struct error *)
{
    return STATUS_OK;
}

enum status spm_open(struct spm **out, const void *model, size_t size, struct error *err)
{
    *out = nullptr;
    try {
        auto s = std::make_unique<spm>();
        const auto status = s->processor.LoadFromSerializedProto(
            absl::string_view(static_cast<const char *>(model), size));
        if (!status.ok())
            return error_set(err, STATUS_DATA, "not a model of SentencePiece: %s",
                             status.error_message());
        *out = s.release();
        return STATUS_OK;
    } catch (const std::bad_alloc &) {
        return no_memory(err);
    } catch (const std::exception &e) {
        return broken(err, e.what());
    }
}

void spm_close(struct spm *s)
{
    delete s;
}

void spm_pieces_free(struct spm_pieces *p)
{
    delete static_cast<ImmutableSentencePieceText *>(p->proto);
    mem_free(p->ids);
    mem_free(p->ends);
    *p = spm_pieces{};
}

enum status spm_encode(const struct spm *s, struct spm_pieces *p, const char *text, size_t size,
                       bool ends, struct error *err)
{
    try {
        return encode(s, p, text, size, ends, err);
    } catch (const std::bad_alloc &) {
        return no_memory(err);
    } catch (const std::exception &e) {
        return broken(err, e.what());
    }
}

enum status spm_train(const struct spm_training *t, char **model, size_t *size, struct error *err)
{
    void *p = nullptr;
    *model = nullptr;
    *size = 0;
    try {
        std::string trained;
        TRY(train(t, &trained, err));
        TRY(mem_alloc(&p, trained.size(), 1, err));
        *model = static_cast<char *>(p);
        *size = trained.size();
        std::memcpy(*model, trained.data(), trained.size());
        return STATUS_OK;
    } catch (const std::bad_alloc &) {
        return no_memory(err);
    } catch (const std::exception &e) {
        return broken(err, e.what());
    }
}

} // extern "C"
