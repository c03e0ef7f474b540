/// The way to one value of a document, as patches write it (RFC 6901): `/spec/ingress/0/action`.
public import JSON

public struct JSONPointer: Hashable, Sendable, CustomStringConvertible {
  /// Reference tokens, unescaped; none for the whole document.
  public let tokens: [String]
  init(tokens: [String]) { self.tokens = tokens }

  /// RFC 6901, sections 3 and 4: each token is preceded by a slash; `~1` is a slash and `~0` a tilde.
  public init(_ text: String) throws(PatchProblem) {
    if text.isEmpty {
      tokens = []
      return
    }
    guard text.utf8.first == UInt8(ascii: "/") else {
      throw PatchProblem("\"\(text)\" is not a JSON pointer: it begins with / or is empty")
    }
    var tokens: [String] = []
    for part in text.utf8.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
      var token: [UInt8] = []
      var escaped = false
      for byte in part {
        if escaped {
          guard byte == UInt8(ascii: "0") || byte == UInt8(ascii: "1") else {
            throw PatchProblem("\"\(text)\" is not a JSON pointer: ~ stands only in ~0 (a tilde) and ~1 (a slash)")
          }
          token.append(byte == UInt8(ascii: "0") ? UInt8(ascii: "~") : UInt8(ascii: "/"))
          escaped = false
        } else if byte == UInt8(ascii: "~") {
          escaped = true
        } else {
          token.append(byte)
        }
      }
      if escaped { throw PatchProblem("\"\(text)\" is not a JSON pointer: ~ stands only in ~0 (a tilde) and ~1 (a slash)") }
      tokens.append(String(decoding: token, as: UTF8.self))
    }
    self.tokens = tokens
  }

  public var description: String {
    tokens.map { token in
      "/" + token.map { $0 == "~" ? "~0" : $0 == "/" ? "~1" : String($0) }.joined()
    }.joined()
  }

  /// The value it points to; nil if there is none.
  public func value(in document: JSONValue) -> JSONValue? {
    var value = document
    for token in tokens {
      switch value {
      case .object(let object):
        guard let next = object[token] else { return nil }
        value = next
      case .array(let elements):
        guard let index = Self.index(token), index < elements.count else { return nil }
        value = elements[index]
      default: return nil
      }
    }
    return value
  }

  /// RFC 6901, section 4: digits without a leading zero.
  static func index(_ token: String) -> Int? {
    guard token == "0" || token.utf8.first != UInt8(ascii: "0"), token.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }) else { return nil }
    return Int(token)
  }

  func isProperPrefix(of other: JSONPointer) -> Bool { tokens.count < other.tokens.count && other.tokens.starts(with: tokens) }
}

/// Why a patch cannot be applied, in words for whoever wrote it.
public struct PatchProblem: Error, Equatable, Sendable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}
