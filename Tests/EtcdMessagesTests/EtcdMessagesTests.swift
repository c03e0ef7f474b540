/// etcd's messages, against octets written by hand from the field numbers of rpc.proto, and octets that nobody should send.
/// (That a real etcd speaks the same is what the contract's claims show.)
import EtcdMessages
import Octets
import Testing

private func hex(_ text: String) -> [UInt8] {
  let digits = text.filter { !$0.isWhitespace }
  return stride(from: 0, to: digits.count, by: 2).map { offset in
    let start = digits.index(digits.startIndex, offsetBy: offset)
    return UInt8(digits[start..<digits.index(start, offsetBy: 2)], radix: 16)!
  }
}
private func octets(_ text: String) -> [UInt8] { Array(text.utf8) }
private func rangeResponse(_ octets: [UInt8]) throws -> EtcdRangeResponse {
  var reader = OctetReader(octets.span)
  return try EtcdRangeResponse(decoding: &reader)
}
private func watchResponse(_ octets: [UInt8]) throws -> EtcdWatchResponse {
  var reader = OctetReader(octets.span)
  return try EtcdWatchResponse(decoding: &reader)
}

@Suite("EtcdMessages")
struct EtcdMessagesTests {
  /// Header {1, 2, 300}, one kv {"/a", "v", 7, 300, lease -1}, more, count 9.
  static let answer = hex(
    """
    0a07 0801 1002 18ac02
    1219 0a022f61 1007 18ac02 2001 2a0176 30ffffffffffffffffff01
    1801 2009
    """)

  @Test("A range answer is read, whatever else is in it")
  func range() throws {
    let response = try rangeResponse(Self.answer)
    #expect(response.header.clusterID == 1 && response.header.memberID == 2 && response.header.revision == 300 && response.hasMore)
    let item = try #require(response.items.first)
    #expect(item.key == octets("/a") && item.value == octets("v") && item.createRevision == 7 && item.modRevision == 300 && item.lease == -1)
    // Fields of later versions, of every wire type, are stepped over: 100 varint, 101 fixed64, 102 delimited, 103 fixed32.
    let unknown = hex("a0067f a90601020304050607 08 b20602aabb bd0601020304")
    #expect(try rangeResponse(unknown + Self.answer + unknown) == response)
  }

  @Test("An answer cut anywhere is either a shorter answer or an error, never more than there was")
  func truncation() {
    for count in 0..<Self.answer.count {
      guard let response = try? rangeResponse(Array(Self.answer.prefix(count))) else { continue }
      #expect(response.items.count <= 1)
    }
    // Inside of the key-value everything is an error, for its length is known.
    for count in 10..<36 { #expect(throws: WireError.self) { try rangeResponse(Array(Self.answer.prefix(count))) } }
  }

  @Test("Lengths and varints beyond all bounds are refused before anything is allocated")
  func bounds() {
    for bad in [
      "12ffffffffffffffffff01", "12ffffffff7f", "18ffffffffffffffffffff01", "18ffffffffffffffffff02", "00", "0b", "0c", "0f",
      "808080808080808080808080",
    ] {
      #expect(throws: WireError.self, "\(bad)") { try rangeResponse(hex(bad)) }
    }
    #expect((try? rangeResponse(hex("18ffffffffffffffffff01")))?.hasMore == true)
  }

  @Test("Any octets are read or refused, and never trap")
  func noise() {
    var random = SystemRandomNumberGenerator()
    for _ in 0..<20_000 {
      var octets = Self.answer
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        octets[Int.random(in: 0..<octets.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      _ = try? rangeResponse(octets)
      _ = try? watchResponse(octets)
      var reader = OctetReader(octets.span)
      _ = try? EtcdTransactionResponse(decoding: &reader)
    }
  }

  @Test("Requests have the field numbers of rpc.proto")
  func requests() {
    #expect(EtcdRangeRequest(EtcdKeyRange(key: octets("/a")), limit: 3, revision: 300).encoded() == hex("0a022f61 1803 20ac02"))
    #expect(EtcdRangeRequest(EtcdKeyRange(from: octets("/a"), to: octets("/b"))).encoded() == hex("0a022f61 12022f62"))
    // All keys: etcd knows neither the empty key nor a missing end.
    #expect(EtcdRangeRequest(EtcdKeyRange(from: [], to: nil)).encoded() == hex("0a0100 120100"))
    let transaction = EtcdTransactionRequest(
      if: [.createRevision(key: octets("a"), equals: 0), .modRevision(key: octets("b"), equals: 5)],
      then: [.put(key: octets("a"), value: octets("v"), lease: 9), .delete(EtcdKeyRange(key: octets("b")))],
      otherwise: [.range(EtcdRangeRequest(EtcdKeyRange(key: octets("a"))))])
    #expect(
      transaction.encoded()
        == hex("0a07 1001 1a0161 2800" + "0a07 1002 1a0162 3005" + "120a 1208 0a0161 120176 1809" + "1205 1a03 0a0162" + "1a05 0a03 0a0161"))
    #expect(
      EtcdWatchRequest(EtcdKeyRange(from: octets("a"), to: octets("b")), startRevision: 7, allowsFragments: true).encoded()
        == hex("0a0c 0a0161 120162 1807 2001 4001"))
    #expect(EtcdRequest.leaseGrant(seconds: 5) == hex("0805") && EtcdRequest.authenticate(name: "u", password: "p") == hex("0a0175 120170"))
  }

  @Test("A watch answer tells puts, deletions, fragments, compaction and why it was cancelled")
  func watch() throws {
    // A length that points beyond the event's end.
    #expect(throws: WireError.self) { try watchResponse(hex("5a0d 1209 0a022f61 18ac02 2a00")) }
    let events = try watchResponse(hex("1802 2001 2809 3203 6f7570 3801" + "5a0b 1209 0a022f61 18ac02 2a00 5a08 0801 1204 0a022f61"))
    #expect(events.isCreated && events.isCancelled && events.compactRevision == 9 && events.cancelReason == "oup" && events.isFragment)
    #expect(events.events.map(\.isDelete) == [false, true] && events.events[0].item.modRevision == 300 && events.events[0].item.value.isEmpty)
  }
}
