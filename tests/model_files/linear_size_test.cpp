#include "model_files/linear_size.h"

#include <gtest/gtest.h>

namespace deeplora {
namespace {

using Expected = std::optional<LinearSize>;

// The texts are sympy.srepr()'s.
TEST(LinearSize, WhatTorchExportSaysOfInputs) {
  EXPECT_EQ(linear_size("Symbol('s72', positive=True, integer=True)"), Expected({"s72", 1, 0}));
  EXPECT_EQ(linear_size("Mul(Integer(2), Symbol('s60', positive=True, integer=True))"), Expected({"s60", 2, 0}));
  EXPECT_EQ(linear_size("Add(Symbol('s1', integer=True), Integer(-1))"), Expected({"s1", 1, -1}));
  EXPECT_EQ(linear_size("Add(Mul(Integer(4), Symbol('s1', integer=True)), Integer(3))"), Expected({"s1", 4, 3}));
  EXPECT_EQ(linear_size("Mul(Integer(3), Add(Symbol('s1'), Integer(2)), Integer(2))"), Expected({"s1", 6, 12}));
  EXPECT_EQ(linear_size("Add(Symbol('s1'), Symbol('s1'))"), Expected({"s1", 2, 0}));
  EXPECT_EQ(linear_size("Integer(7)"), Expected({"", 0, 7}));
  EXPECT_EQ(linear_size("s0"), Expected({"s0", 1, 0}));
}

TEST(LinearSize, NothingElse) {
  for (const char* text :
       {"", "(", "2*s0", "Symbol(", "Symbol('s0'", "Symbol('', integer=True)", "Integer(x)", "Integer(99999999999)",
        "Integer(99999999999999999999999)", "Mul(Integer(2), s0)", "Mul(Symbol('a'), Symbol('b'))",
        "Add(Symbol('a'), Symbol('b'))", "FloorDiv(Symbol('a'), Integer(2))", "Add(Integer(1), Integer(2)) and more",
        "Mul(Integer(2147483647), Mul(Integer(2147483647), Symbol('a')))", "Add(Symbol('a'), )"})
    EXPECT_EQ(linear_size(text), std::nullopt) << text;
  std::string deep = "Integer(1)";
  for (int i = 0; i < 1000; ++i) deep = "Add(" + deep + ", Integer(1))";
  EXPECT_EQ(linear_size(deep), std::nullopt);
}

}  // namespace
}  // namespace deeplora
