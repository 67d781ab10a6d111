# Each tier file is compiled for its instruction set; nothing else is. tier_scalar has no extra one.
# Contraction is off so that a multiply-add is fused exactly where the code says fma: otherwise the
# compiler may fuse differently in the kernels for one token and for several.
set_source_files_properties(
  ${CMAKE_SOURCE_DIR}/kernels/cpu/tier_scalar.cpp TARGET_DIRECTORY nemo_kernels
  PROPERTIES COMPILE_OPTIONS "-ffp-contract=off")
# What reads blocks by plain loops (strip_portable.inl) needs the vectorizer: a quarter of decoding.
set(nemo_avx2_options "-ffp-contract=off;-mavx2;-mfma;-mf16c;$<$<CONFIG:Release>:-O3>")
set_source_files_properties(
  ${CMAKE_SOURCE_DIR}/kernels/cpu/tier_avx2.cpp TARGET_DIRECTORY nemo_kernels
  PROPERTIES COMPILE_OPTIONS "${nemo_avx2_options}")
set_source_files_properties(
  ${CMAKE_SOURCE_DIR}/kernels/cpu/tier_avxvnni.cpp TARGET_DIRECTORY nemo_kernels
  PROPERTIES COMPILE_OPTIONS "${nemo_avx2_options};-mavxvnni")
set_source_files_properties(
  ${CMAKE_SOURCE_DIR}/kernels/cpu/tier_avx512.cpp TARGET_DIRECTORY nemo_kernels
  PROPERTIES
    COMPILE_OPTIONS
    "-ffp-contract=off;-mavx2;-mfma;-mf16c;-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vnni;-mprefer-vector-width=512")
