// Which of several compiled versions of a loop the processor can run. Free of LibTorch.
#pragma once

namespace deeplora {

enum class InstructionSet { portable, avx2, avx512 };

/// The widest one of these that the processor has (AVX2 with FMA; AVX-512 F, DQ and VL).
InstructionSet instruction_set();

/// The version for this processor.
template <class T>
T choose_loops(T portable, T avx2, T avx512) {
  switch (instruction_set()) {
    case InstructionSet::avx512: return avx512;
    case InstructionSet::avx2: return avx2;
    default: return portable;
  }
}

}  // namespace deeplora
