/* SentencePiece by itself, for comparisons. */
#include "data/spm_peer.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <unordered_map>
#include <vector>

namespace
{

class Lines : public sentencepiece::SentenceIterator
{
  public:
    explicit Lines(const char *text) : at_(text)
    {
        Next();
    }
    bool done() const override
    {
        return done_;
    }
    void Next() override
    {
        done_ = *at_ == '\0';
        const char *stop = std::strchr(at_, '\n');
        stop = stop != nullptr ? stop : at_ + std::strlen(at_);
        line_.assign(at_, stop);
        at_ = *stop == '\n' ? stop + 1 : stop;
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
    const char *at_;
    std::string line_;
    bool done_ = false;
};

char *copy(const void *bytes, size_t size)
{
    char *to = static_cast<char *>(std::calloc(size + 1, 1));
    if (to == nullptr)
        std::abort();
    if (size > 0)
        std::memcpy(to, bytes, size);
    return to;
}

} // namespace

using sentencepiece::SentencePieceProcessor;

extern "C" {

char *spm_peer_train(const char *options, const char *text, size_t *size)
{
    Lines lines(text);
    std::string model;
    /* Options of no value are true. */
    std::unordered_map<std::string, std::string> map = {{"minloglevel", "4"}};
    for (const char *at = options; *at != '\0';) {
        const std::string option(at + 2, std::strcspn(at, " ") - 2);
        const size_t equal = option.find('=');
        map[option.substr(0, equal)] =
            equal == std::string::npos ? "true" : option.substr(equal + 1);
        at += option.size() + 2;
        at += *at == ' ';
    }
    const auto status = sentencepiece::SentencePieceTrainer::Train(map, &lines, &model);
    if (!status.ok()) {
        std::fprintf(stderr, "%s\n", status.error_message());
        return nullptr;
    }
    *size = model.size();
    return copy(model.data(), model.size());
}

void *spm_peer_open(const void *model, size_t size)
{
    auto *peer = new SentencePieceProcessor;
    if (peer->LoadFromSerializedProto(absl::string_view(static_cast<const char *>(model), size))
            .ok())
        return peer;
    delete peer;
    return nullptr;
}

void spm_peer_close(void *peer)
{
    delete static_cast<SentencePieceProcessor *>(peer);
}

int32_t *spm_peer_encode(void *peer, const char *line, size_t size, int64_t *count)
{
    const auto ids =
        static_cast<SentencePieceProcessor *>(peer)->EncodeAsIds(absl::string_view(line, size));
    *count = static_cast<int64_t>(ids.size());
    return reinterpret_cast<int32_t *>(copy(ids.data(), ids.size() * sizeof(int32_t)));
}

char *spm_peer_decode(void *peer, const int32_t *ids, int64_t count, size_t *size)
{
    const std::string text =
        static_cast<SentencePieceProcessor *>(peer)->DecodeIds(std::vector<int>(ids, ids + count));
    *size = text.size();
    return copy(text.data(), text.size());
}

int64_t spm_peer_pieces(void *peer)
{
    return static_cast<SentencePieceProcessor *>(peer)->GetPieceSize();
}

const char *spm_peer_piece(void *peer, int64_t id)
{
    return static_cast<SentencePieceProcessor *>(peer)->IdToPiece(static_cast<int>(id)).c_str();
}

} // extern "C"
