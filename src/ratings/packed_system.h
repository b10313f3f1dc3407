// Symmetric matrices as lower triangles packed row by row, and systems of them.
#pragma once

#include <cstddef>
#include <span>

namespace deeplora {

/// Numbers of a lower triangle of n rows; where its row n begins.
constexpr size_t triangle(size_t n) { return n * (n + 1) / 2; }

/// Cholesky's factor L of L L^T = `matrix` [n (n + 1) / 2], in place. False when the matrix is not positive definite.
bool decompose_packed(std::span<double> matrix, size_t n);

/// Solves a symmetric positive definite system in place: `matrix` becomes L, `right` the solution. False when the
/// matrix is not positive definite.
bool solve_packed(std::span<double> matrix, std::span<double> right);

}  // namespace deeplora
