/// Frames in tests are written in hexadecimal, one field to a line, with the field's name behind `;`.
import Addresses
import BGPMessages
import Testing

/// The octets of annotated hexadecimal text.
func octets(_ text: String) -> [UInt8] {
  var result: [UInt8] = []
  for line in text.split(separator: "\n") {
    let digits = line.prefix { $0 != ";" }.filter { !$0.isWhitespace }.map { UInt8($0.hexDigitValue!) }
    precondition(digits.count % 2 == 0, "whole octets: \(line)")
    result += stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
  }
  return result
}

/// A whole message around a body.
func frame(_ type: MessageType, _ body: [UInt8]) -> [UInt8] {
  let length = body.count + 19
  return [UInt8](repeating: 0xff, count: 16) + [UInt8(length >> 8), UInt8(length & 0xff), type.rawValue] + body
}

/// An UPDATE from its three parts.
func updateFrame(withdrawn: String = "", attributes: String = "", nlri: String = "") -> [UInt8] {
  func counted(_ part: [UInt8]) -> [UInt8] { [UInt8(part.count >> 8), UInt8(part.count & 0xff)] + part }
  return frame(.update, counted(octets(withdrawn)) + counted(octets(attributes)) + octets(nlri))
}

func decodeUpdate(_ octets: [UInt8], _ options: DecodeOptions = DecodeOptions()) throws -> Update {
  guard case .update(let update) = try Message.decode(octets, options: options) else {
    Issue.record("not an UPDATE")
    return Update()
  }
  return update
}

func prefix(_ text: String) -> NLRI { NLRI(IPPrefix(text)!) }

/// Repeatable random numbers; the seed is printed where they are used.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
    return z ^ z >> 31
  }
}
