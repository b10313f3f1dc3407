// Bytes of text files in other encodings than UTF-8.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

/// utf-8, latin-1, cp1252, utf-16
const std::vector<std::string>& encoding_names();

/// The encoding that a byte order mark at the beginning tells, with the mark's length; {"", 0} without one. UTF-16 is
/// "utf-16le" or "utf-16be" here.
std::pair<std::string, size_t> byte_order_mark(std::string_view bytes);

/// Text without its byte order mark as UTF-8; a mark goes before `encoding` (one of encoding_names(); UTF-16 without a
/// mark is little-endian). UTF-8 is passed on as it is. Throws Error with `where`:line for bytes that the encoding does
/// not know.
std::string to_utf8(std::string bytes, const std::string& encoding, const std::string& where);

/// The one of encoding_names() that bytes which are not UTF-8 are most likely in.
std::string likely_encoding(std::string_view bytes);

}  // namespace deeplora
