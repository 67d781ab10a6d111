# Each tier file is compiled for its instruction set; nothing else is. tier_scalar has no extra flags.
set_source_files_properties(
  ${CMAKE_SOURCE_DIR}/kernels/cpu/tier_avx2.cpp TARGET_DIRECTORY nemo_kernels
  PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c")
set_source_files_properties(
  ${CMAKE_SOURCE_DIR}/kernels/cpu/tier_avx512.cpp TARGET_DIRECTORY nemo_kernels
  PROPERTIES
    COMPILE_OPTIONS
    "-mavx2;-mfma;-mf16c;-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vnni;-mprefer-vector-width=512")
