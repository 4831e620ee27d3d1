# Given to the build of llama-cpp-python as CMAKE_PROJECT_llama_cpp_INCLUDE, together with
# -DLLAVA_BUILD=OFF: CMake reads it right after project(llama_cpp). It leaves out what tanuki does not use
# (of 178 files 74 are compiled); the kernels are compiled as ever.

# The cache entry of this name is forced on; since CMake 3.21 a plain variable wins.
set(LLAMA_BUILD_COMMON OFF)

function(tanuki_lighten_llama)
  if(NOT TARGET llama OR MSVC)
    return()
  endif()
  # libllama reads files, builds graphs and hands them to ggml, which computes: optimising it fully takes a
  # third longer to compile and gains nothing. The samplers go over the whole vocabulary: as they were.
  target_compile_options(llama PRIVATE $<$<CONFIG:Release>:-O1>)
  set(source ${CMAKE_CURRENT_SOURCE_DIR}/vendor/llama.cpp/src)
  set_property(SOURCE ${source}/llama-sampler.cpp DIRECTORY ${source}
    PROPERTY COMPILE_OPTIONS $<$<CONFIG:Release>:-O3>)
endfunction()

# Once the directory with the target is read.
cmake_language(DEFER CALL tanuki_lighten_llama)
