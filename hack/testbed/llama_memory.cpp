// Asks llama.cpp itself how much memory a model needs. It reads the header, makes the model's tensors
// by its own rules without allocating them, and makes a context: a file of a few hundred bytes that has
// nothing but metadata stands for a model of any size.
//
// Each line of the input is one question; each line of the output answers it, in bytes:
//   PATH CONTEXT PARALLEL UNIFIED K_TYPE V_TYPE UBATCH SWA_FULL FLASH_ATTENTION DRAFTED DRAFTING
//   ok KV_CACHE STATE COMPUTE  |  error TEXT
#include "ggml-backend.h"
#include "ggml.h"
#include "gguf.h"
#include "llama-ext.h"
#include "llama-memory-hybrid-iswa.h"
#include "llama-memory-hybrid.h"
#include "llama-memory-recurrent.h"
#include "llama.h"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>

static std::string first_error;

static size_t sum(const std::map<ggml_backend_buffer_type_t, size_t> & by_buffer) {
    size_t total = 0;
    for (const auto & [buffer, size] : by_buffer) {
        total += size;
    }
    return total;
}

static ggml_type type_named(const std::string & name) {
    for (int i = 0; i < GGML_TYPE_COUNT; i++) {
        const char * found = ggml_type_name((ggml_type) i);
        if (found != nullptr && name == found) {
            return (ggml_type) i;
        }
    }
    throw std::runtime_error("no type " + name);
}

static size_t state_of(llama_memory_i * memory) {
    if (auto * recurrent = dynamic_cast<llama_memory_recurrent *>(memory)) {
        return sum(recurrent->memory_breakdown());
    }
    if (auto * hybrid = dynamic_cast<llama_memory_hybrid *>(memory)) {
        return sum(hybrid->get_mem_recr()->memory_breakdown());
    }
    if (auto * hybrid = dynamic_cast<llama_memory_hybrid_iswa *>(memory)) {
        return sum(hybrid->get_mem_recr()->memory_breakdown());
    }
    return 0;
}

static void answer(const std::string & question) {
    std::istringstream words(question);
    std::string path, k_type, v_type;
    uint32_t context, parallel, ubatch, drafted;
    bool unified, swa_full, flash_attention, drafting;
    words >> path >> context >> parallel >> unified >> k_type >> v_type >> ubatch >> swa_full >>
        flash_attention >> drafted >> drafting;
    first_error.clear();

    std::unique_ptr<gguf_context, decltype(&gguf_free)> metadata(
        gguf_init_from_file(path.c_str(), { /*.no_alloc =*/ true, /*.ctx =*/ nullptr }), gguf_free);
    if (!metadata) {
        throw std::runtime_error("not readable: " + first_error);
    }
    llama_model_params with = llama_model_default_params();
    with.no_alloc           = true;
    with.load_mtp           = true;
    std::unique_ptr<llama_model, decltype(&llama_model_free)> model(
        llama_model_init_from_user(metadata.get(), [](ggml_tensor *, void *) {}, nullptr, with), llama_model_free);
    if (!model) {
        throw std::runtime_error("no model: " + first_error);
    }

    llama_context_params settings = llama_context_default_params();
    settings.n_ctx           = context;
    settings.n_batch         = std::max(2048u, ubatch);
    settings.n_ubatch        = ubatch;
    settings.n_seq_max       = parallel;
    settings.kv_unified      = unified;
    settings.n_rs_seq        = drafted;
    settings.type_k          = type_named(k_type);
    settings.type_v          = type_named(v_type);
    settings.swa_full        = swa_full;
    settings.flash_attn_type = flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    std::unique_ptr<llama_context, decltype(&llama_free)> trunk(nullptr, llama_free);
    std::unique_ptr<llama_context, decltype(&llama_free)> made(llama_init_from_model(model.get(), settings), llama_free);
    if (!made) {
        throw std::runtime_error("no context: " + first_error);
    }
    if (drafting) {
        // As llama-server does for --spec-type draft-mtp: a second context beside the model's own.
        settings.ctx_type  = LLAMA_CONTEXT_TYPE_MTP;
        settings.n_rs_seq  = 0;
        settings.ctx_other = made.get();
        trunk              = std::move(made);
        made.reset(llama_init_from_model(model.get(), settings));
        if (!made) {
            throw std::runtime_error("no drafting context: " + first_error);
        }
    }
    size_t all = 0, compute = 0;
    for (const auto & [buffer, size] : llama_get_memory_breakdown(made.get())) {
        all += size.context;
        compute += size.compute;
    }
    const size_t state = state_of(llama_get_memory(made.get()));
    printf("ok %zu %zu %zu\n", all - state, state, compute);
}

int main() {
    llama_log_set([](ggml_log_level level, const char * text, void *) {
        if (level == GGML_LOG_LEVEL_ERROR && first_error.empty()) {
            first_error = text;
            first_error.erase(std::remove(first_error.begin(), first_error.end(), '\n'), first_error.end());
        }
    }, nullptr);
    llama_backend_init();
    for (std::string question; std::getline(std::cin, question);) {
        try {
            answer(question);
        } catch (const std::exception & error) {
            printf("error %s\n", error.what());
        }
        fflush(stdout);
    }
    return 0;
}
