// Asks llama.cpp itself how large the caches of a model are: its own code reads the header and makes
// the memory, without tensors, so a file of a few hundred bytes stands for a model of any size.
//
// Each line of the input is one question; each line of the output answers it:
//   PATH CONTEXT PARALLEL UNIFIED K_TYPE V_TYPE UBATCH SWA_FULL FLASH_ATTENTION DRAFTED
//   ok KV_BYTES STATE_BYTES  |  error TEXT
#include "ggml-backend.h"
#include "ggml.h"
#include "llama-cparams.h"
#include "llama-memory-hybrid-idx.h"
#include "llama-memory-hybrid-iswa.h"
#include "llama-memory-hybrid.h"
#include "llama-memory-recurrent.h"
#include "llama-model-loader.h"
#include "llama-model.h"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>

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
    bool unified, swa_full, flash_attention;
    words >> path >> context >> parallel >> unified >> k_type >> v_type >> ubatch >> swa_full >>
        flash_attention >> drafted;

    llama_model_params params = llama_model_default_params();
    params.no_alloc = true;
    std::vector<std::string> splits;
    llama_model_loader loader(nullptr, nullptr, nullptr, path, splits, nullptr, LLAMA_LOAD_MODE_NONE,
                              false, true, false, nullptr, nullptr);
    std::unique_ptr<llama_model> model(llama_model_create(loader, params));
    model->hparams.vocab_only = false;
    model->hparams.no_alloc   = true;
    dynamic_cast<llama_model_base &>(*model).load_hparams(loader);

    // What llama_context does with the settings before it makes the memory.
    llama_cparams settings = {};
    settings.n_seq_max   = std::max(1u, parallel);
    settings.n_ctx       = GGML_PAD(context, 256);
    settings.kv_unified  = unified;
    settings.n_ctx_seq   = unified ? settings.n_ctx : GGML_PAD(settings.n_ctx / settings.n_seq_max, 256);
    settings.n_ubatch    = ubatch;
    settings.n_batch     = std::max(2048u, ubatch);
    settings.flash_attn  = flash_attention;
    settings.n_rs_seq    = llm_arch_supports_rs_rollback(model->arch) ? drafted : 0;
    settings.offload_kqv = false;

    llama_memory_params wanted = {};
    wanted.type_k   = type_named(k_type);
    wanted.type_v   = type_named(v_type);
    wanted.swa_full = swa_full;
    wanted.ctx_type = LLAMA_CONTEXT_TYPE_DEFAULT;

    std::unique_ptr<llama_memory_i> memory(model->create_memory(wanted, settings));
    const size_t all   = memory ? sum(memory->memory_breakdown()) : 0;
    const size_t state = state_of(memory.get());
    printf("ok %zu %zu\n", all - state, state);
}

int main() {
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    ggml_backend_load_all();
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
