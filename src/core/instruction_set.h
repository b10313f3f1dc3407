// Which of several compiled versions of a loop the processor can run. Free of LibTorch.
#pragma once

namespace deeplora {

enum class InstructionSet { portable, avx2, avx512 };

/// The widest one of these that the processor has (AVX2 with FMA; AVX-512 F, DQ and VL).
InstructionSet instruction_set();

/// The processor's maker, for whose own libraries (MKL) it matters.
bool is_made_by_intel();

/// The version for this processor.
template <class T>
T choose_loops(T portable, T avx2, T avx512) {
  switch (instruction_set()) {
    case InstructionSet::avx512: return avx512;
    case InstructionSet::avx2: return avx2;
    default: return portable;
  }
}

/// choose_loops() of the versions of `name` in the namespaces portable, avx2 and avx512, for the choose.cpp of a folder
/// of loops; only `portable` where the others are not compiled.
#ifdef DEEPLORA_X86_LOOPS
#define DEEPLORA_CHOOSE_LOOPS(name) ::deeplora::choose_loops(portable::name, avx2::name, avx512::name)
#else
#define DEEPLORA_CHOOSE_LOOPS(name) portable::name
#endif

}  // namespace deeplora
