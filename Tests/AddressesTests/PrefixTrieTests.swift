import Addresses
import Testing

/// The same questions, answered by looking at every entry.
private struct NaiveTable {
  var entries: [IPPrefix: Int] = [:]
  func longestMatch(_ address: IPAddress) -> IPPrefix? { entries.keys.filter { $0.contains(address) }.max { $0.length < $1.length } }
  func covering(_ prefix: IPPrefix) -> [IPPrefix] { entries.keys.filter { $0.contains(prefix) }.sorted { $0.length < $1.length } }
  func coveredBy(_ prefix: IPPrefix) -> [IPPrefix] { entries.keys.filter { prefix.contains($0) }.sorted() }
}

private struct Generator: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
    return mixed ^ mixed >> 31
  }
}

@Suite("Prefix trie")
struct PrefixTrieTests {
  private func trie(_ texts: [String]) -> PrefixTrie<String> {
    var trie = PrefixTrie<String>()
    for text in texts { trie[IPPrefix(text)!] = text }
    return trie
  }

  @Test(
    "The longest match wins, and the families do not mix",
    arguments: [
      ("10.1.2.3", "10.1.2.0/24"), ("10.1.3.3", "10.1.0.0/16"), ("10.2.0.1", "10.0.0.0/8"), ("11.0.0.1", "0.0.0.0/0"),
      ("fd00::1", "fd00::1/128"), ("fd00::2", "fd00::/64"),
      ("fe00::1", nil),
    ])
  func longest(address: String, expected: String?) {
    let trie = trie(["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "fd00::/64", "fd00::1/128"])
    #expect(trie.longestMatch(IPAddress(address)!)?.value == expected)
  }

  @Test("Covering goes from short to long, covered-by in order; both include the prefix itself")
  func covers() {
    let trie = trie(["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.200.0.0/16", "11.0.0.0/8"])
    #expect(trie.covering(IPPrefix("10.1.0.0/16")!).map(\.value) == ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16"])
    #expect(trie.covering(IPPrefix("12.0.0.0/7")!).map(\.value) == ["0.0.0.0/0"])
    #expect(trie.coveredBy(IPPrefix("10.0.0.0/8")!).map(\.value) == ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.200.0.0/16"])
    #expect(trie.coveredBy(IPPrefix("10.1.0.0/15")!).map(\.value) == ["10.1.0.0/16", "10.1.2.0/24"])
    #expect(trie.coveredBy(IPPrefix("::/0")!).isEmpty)
  }

  @Test("Any sequence of changes leaves the trie and a plain table of one mind")
  func random() {
    let seed = UInt64.random(in: 0...UInt64.max)
    var random = Generator(state: seed)
    // Few distinct bits and all lengths, so that prefixes nest, fork and repeat.
    func prefix() -> IPPrefix {
      let bits = random.next() & 0x8000_0001_8000_0001
      if Bool.random(using: &random) {
        return .v4(
          IPv4Prefix(
            IPv4Address(rawValue: UInt32(truncatingIfNeeded: bits | bits << 5 | random.next() & 0x70)),
            length: .random(in: 0...32, using: &random)))
      }
      return .v6(IPv6Prefix(IPv6Address(high: bits | bits << 9, low: bits | bits << 3), length: .random(in: 0...128, using: &random)))
    }
    for round in 0..<20 {
      var trie = PrefixTrie<Int>()
      var naive = NaiveTable()
      for step in 0..<400 {
        let changed = prefix()
        // Rounds grow first and shrink later, so that removal meets every shape.
        if Int.random(in: 0..<400, using: &random) > step {
          #expect(
            trie.insert(step, for: changed) == naive.entries.updateValue(step, forKey: changed),
            "seed \(seed), round \(round), step \(step)")
        } else {
          let victim = Bool.random(using: &random) ? naive.entries.keys.sorted().randomElement(using: &random) ?? changed : changed
          #expect(trie.remove(victim) == naive.entries.removeValue(forKey: victim), "seed \(seed), round \(round), step \(step)")
        }
        let asked = prefix()
        #expect(trie[asked] == naive.entries[asked], "seed \(seed), round \(round), step \(step)")
        #expect(trie.longestMatch(asked.address)?.prefix == naive.longestMatch(asked.address), "seed \(seed), round \(round), step \(step)")
        #expect(trie.longestMatch(asked)?.prefix == naive.covering(asked).last, "seed \(seed), round \(round), step \(step)")
        #expect(trie.covering(asked).map(\.prefix) == naive.covering(asked), "seed \(seed), round \(round), step \(step)")
        #expect(trie.coveredBy(asked).map(\.prefix) == naive.coveredBy(asked), "seed \(seed), round \(round), step \(step)")
        #expect(trie.count == naive.entries.count)
      }
      #expect(trie.entries.map(\.prefix) == naive.entries.keys.sorted(), "seed \(seed), round \(round)")
      for prefix in naive.entries.keys { trie.remove(prefix) }
      #expect(trie.isEmpty && trie.entries.isEmpty)
    }
  }
}
