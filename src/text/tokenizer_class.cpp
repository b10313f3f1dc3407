#include "text/tokenizer_class.h"

#include <algorithm>
#include <string_view>

namespace deeplora {
namespace {

struct ClassTypes {
  const char* name;
  const char* types;  ///< each between two spaces
};

/// Kinds of models (model_type) and the class of their tokenizer, out of TOKENIZER_MAPPING_NAMES of transformers 5.23;
/// Mistral's stand with the general ones, as they do without tekken.json.
constexpr ClassTypes kTypes[] = {
    {"AlbertTokenizer", " albert yoso "},
    {"BartTokenizer", " florence2 "},
    {"BarthezTokenizer", " barthez "},
    {"BartphoTokenizer", " bartpho "},
    {"BertGenerationTokenizer", " bert-generation "},
    {"BertJapaneseTokenizer", " bert-japanese "},
    {"BertTokenizer",
     " align bark bert blip bros chinese_clip convbert distilbert electra ernie flava git grounding-dino "
     "layoutlm megatron-bert mm-grounding-dino nezha nomic_bert qdqbert realm retribert squeezebert tvp vilt "
     "visual_bert "},
    {"BertweetTokenizer", " bertweet "},
    {"BigBirdTokenizer", " big_bird "},
    {"BioGptTokenizer", " biogpt "},
    {"BlenderbotSmallTokenizer", " blenderbot-small "},
    {"BlenderbotTokenizer", " blenderbot "},
    {"ByT5Tokenizer", " byt5 "},
    {"CLIPTokenizer", " aimv2 clip clipseg groupvit omdet-turbo oneformer owlv2 owlvit sam3 sam3_video xclip "},
    {"CTRLTokenizer", " ctrl "},
    {"CamembertTokenizer", " camembert "},
    {"CanineTokenizer", " canine "},
    {"ClvpTokenizer", " clvp "},
    {"CodeLlamaTokenizer", " code_llama "},
    {"CohereTokenizer", " aya_vision cohere cohere2 "},
    {"CpmAntTokenizer", " cpmant "},
    {"CpmTokenizer", " cpm "},
    {"DPRQuestionEncoderTokenizer", " dpr "},
    {"DebertaTokenizer", " deberta "},
    {"DebertaV2Tokenizer", " deberta-v2 "},
    {"DiaTokenizer", " dia "},
    {"EsmTokenizer", " esm "},
    {"EsmcTokenizer", " esmc esmfold2 "},
    {"FNetTokenizer", " fnet "},
    {"FSMTTokenizer", " fsmt "},
    {"FlaubertTokenizer", " flaubert "},
    {"FunnelTokenizer", " funnel "},
    {"GPT2Tokenizer",
     " blip-2 codegen dbrx emu3 gpt2 gpt_neo gptj hyperclovax_vision_v2 instructblip instructblipvideo jais2 "
     "opt phi starcoder2 "},
    {"GPTNeoXJapaneseTokenizer", " gpt_neox_japanese "},
    {"GPTNeoXTokenizer", " falcon_mamba gpt_neox mamba mamba2 mpt olmo olmoe rwkv xlstm "},
    {"GPTSw3Tokenizer", " gpt-sw3 "},
    {"GemmaTokenizer",
     " diffusion_gemma gemma gemma2 gemma3 gemma3_text gemma3n gemma3n_text recurrent_gemma shieldgemma2 "
     "t5gemma zaya "},
    {"HerbertTokenizer", " herbert "},
    {"LEDTokenizer", " led "},
    {"LasrTokenizer", " lasr_ctc lasr_encoder "},
    {"LayoutLMv2Tokenizer", " layoutlmv2 "},
    {"LayoutLMv3Tokenizer", " layoutlmv3 "},
    {"LayoutXLMTokenizer", " layoutxlm "},
    {"LlamaTokenizer", " idefics idefics2 "},
    {"LukeTokenizer", " luke "},
    {"LxmertTokenizer", " lxmert "},
    {"M2M100Tokenizer", " m2m_100 "},
    {"MBart50Tokenizer", " mbart50 "},
    {"MBartTokenizer", " mbart "},
    {"MLukeTokenizer", " mluke "},
    {"MPNetTokenizer", " mpnet "},
    {"MarianTokenizer", " marian "},
    {"MarkupLMTokenizer", " markuplm "},
    {"MgpstrTokenizer", " mgp-str "},
    {"MobileBertTokenizer", " mobilebert "},
    {"MvpTokenizer", " mvp "},
    {"MyT5Tokenizer", " myt5 "},
    {"NllbTokenizer", " nllb nllb-moe "},
    {"NougatTokenizer", " nougat pp_formulanet "},
    {"OpenAIGPTTokenizer", " openai-gpt "},
    {"PLBartTokenizer", " plbart "},
    {"ParakeetTokenizer",
     " granite_speech5_ctc nemotron3_5_asr nemotron_asr_streaming parakeet_ctc parakeet_rnnt parakeet_tdt "},
    {"PegasusTokenizer", " pegasus "},
    {"PerceiverTokenizer", " perceiver "},
    {"PhobertTokenizer", " phobert "},
    {"ProphetNetTokenizer", " prophetnet "},
    {"Qwen2Tokenizer",
     " audioflamingo3 colqwen2 cosmos3_omni dots3_note fun_asr_nano hunyuan_vl internvl lighton_ocr "
     "moss_transcribe_diarize ovis2 qianfan_ocr qwen2 qwen2_5_omni qwen2_5_vl qwen2_audio qwen2_moe qwen2_vl "
     "qwen3 qwen3_asr qwen3_moe qwen3_next qwen3_omni_moe qwen3_vl qwen3_vl_moe vibevoice "},
    {"Qwen3_5Tokenizer", " qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen4_exp "},
    {"RagTokenizer", " rag "},
    {"ReformerTokenizer", " reformer "},
    {"RemBertTokenizer", " rembert "},
    {"RoCBertTokenizer", " roc_bert "},
    {"RoFormerTokenizer", " roformer "},
    {"RobertaTokenizer",
     " bart bridgetower clap data2vec-text ibert lilt longformer mega mra roberta roberta-prelayernorm "},
    {"SeamlessM4TTokenizer", " seamless_m4t seamless_m4t_v2 "},
    {"Siglip2Tokenizer", " siglip2 "},
    {"SiglipTokenizer", " siglip "},
    {"Speech2TextTokenizer", " speech_to_text "},
    {"SpeechT5Tokenizer", " speecht5 "},
    {"SplinterTokenizer", " splinter "},
    {"T5Tokenizer", " mt5 musicgen musicgen_melody switch_transformers t5 "},
    {"TapasTokenizer", " tapas "},
    {"Tipsv2Tokenizer", " tipsv2 "},
    {"TokenizersBackend",
     " EvollaModel arctic aria beam bigbird_pegasus camembertv2-base canary chatlm cohere_asr ernie4_5 "
     "ernie4_5_moe flex_olmo fuyu glm glm4 glm4_moe glm4_moe_lite glm4v glm4v_moe glm_image glmasr got_ocr2 "
     "gpt_bigcode gradium_phonon_tts granite granitemoe granitemoehybrid granitemoeshared h2ovl_chat "
     "hyperclovax hyperclovax_vlm internlm2 internlm3 iquestcoder jamba kimi_k25 kimi_linear kosmos-2 llava "
     "llava_next mimo_v2_flash minicpm3 minicpm_ocr minicpmv minicpmv4_6 minicpmv4_7 minimax_m2 ministral "
     "ministral3 mistral mistral3 mistral_large4 mixtral modernbert modernbert-decoder molmo molmo2 "
     "nemo_speechlm nemotron nvfp4 nystromformer olmo2 olmo3 olmo_hybrid opencua openvla paddleocr_vl "
     "pegasus_x persimmon phi3 phi3_v phimoe pix2struct pixtral pocket_tts smolvlm stablelm step3_vl umt5 "
     "vipllava voxtral voxtral_realtime xlm-roberta-xl "},
    {"UdopTokenizer", " udop "},
    {"VideoPrismTokenizer", " videoprism "},
    {"VitsTokenizer", " vits "},
    {"Wav2Vec2CTCTokenizer",
     " data2vec-audio hubert unispeech unispeech-sat wav2vec2 wav2vec2-bert wav2vec2-conformer "},
    {"Wav2Vec2PhonemeCTCTokenizer", " wav2vec2_phoneme "},
    {"WhisperTokenizer", " whisper "},
    {"XGLMTokenizer", " xglm "},
    {"XLMRobertaTokenizer", " gte jina_embeddings_v3 metaclip_2 trocr xlm-roberta xmod "},
    {"XLMTokenizer", " xlm "},
    {"XLNetTokenizer", " xlnet "},
};

/// Classes that can be named though no kind of model has them as its own.
constexpr std::string_view kFurtherClasses =
    " BartTokenizer BertTokenizerLegacy CodeGenTokenizer ConvBertTokenizer DPRContextEncoderTokenizer "
    "DPRReaderTokenizer DistilBertTokenizer "
    "ElectraTokenizer FastSpeech2ConformerTokenizer LEDTokenizer LayoutLMTokenizer LongformerTokenizer MT5Tokenizer "
    "MistralCommonBackend "
    "Pop2PianoTokenizer SqueezeBertTokenizer ";

/// Kinds whose folders are known to name a wrong class, and have a particular one; those that have the general one need
/// no list.
constexpr std::string_view kDistrusted =
    " hyperclovax_vision_v2 qwen2 qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen4_exp siglip2 ";
/// Of those that have the general one: their own code is passed over as well.
constexpr std::string_view kDistrustedGeneral =
    " arctic camembertv2-base chatlm cohere_asr ernie4_5 ernie4_5_moe fuyu h2ovl_chat hyperclovax hyperclovax_vlm "
    "internlm2 internlm3 iquestcoder "
    "jamba llava llava_next minicpm3 minicpmv minimax_m2 modernbert modernbert-decoder molmo molmo2 nemotron nvfp4 "
    "opencua openvla paddleocr_vl phi3 "
    "phi3_v phimoe smolvlm step3_vl vipllava ";

bool has_word(std::string_view words, const std::string& word) {
  return !word.empty() && words.find(" " + word + " ") != std::string_view::npos;
}

std::string class_of_type(const std::string& type) {
  for (const ClassTypes& one : kTypes)
    if (has_word(one.types, type)) return one.name;
  return "";
}

bool is_known(const std::string& name) {
  return has_word(kFurtherClasses, name) ||
         std::any_of(std::begin(kTypes), std::end(kTypes), [&](const ClassTypes& one) { return name == one.name; });
}

/// The class itself, or the general one where transformers has none of that name.
std::string known_or_general(const std::string& name) { return is_known(name) ? name : kGeneralTokenizer; }

std::string class_in(const JsonFile& file) {
  auto out = file.value<std::string>("tokenizer_class", "");
  if (out.ends_with("Fast")) out.erase(out.size() - 4);
  return out;
}

/// Whether the folder brings code for its tokenizer, which transformers runs only when it is told to.
bool has_own_code(const TokenizerConfig& config) {
  const auto found = config.root.find("auto_map");
  if (found == config.root.end()) return false;
  return found->is_array() ||
         (found->is_object() && found->contains("AutoTokenizer") && !(*found)["AutoTokenizer"].is_null());
}

}  // namespace

std::string reading_class(const TokenizerConfig& config, const JsonFile& model) {
  const auto type = model.value<std::string>("model_type", "");
  const std::string own = class_in(config), of_model = class_in(model), registered = class_of_type(type);
  const std::string named = own.empty() ? of_model : own;
  if (named == "MistralCommonBackend") return named;
  if (has_own_code(config)) {
    check(!registered.empty() || is_known(own) || has_word(kDistrustedGeneral, type), config.name,
          ": auto_map names code of the model's own for its tokenizer, which is not run; a tokenizer.json would do");
  } else if (!named.empty() && !registered.empty() && named != registered) {
    if (registered == kGeneralTokenizer) return kGeneralTokenizer;
    return known_or_general(has_word(kDistrusted, type) ? registered : named);
  }
  if (!named.empty()) return known_or_general(named);
  return !registered.empty() || type.empty() ? registered : kGeneralTokenizer;
}

}  // namespace deeplora
