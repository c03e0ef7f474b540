/// DeltaMap against the plain definition of "pending".

import Deltas
import Testing

struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
    return z ^ z >> 31
  }
}

@Suite("DeltaMap")
struct DeltaMapTests {
  @Test("Whatever the path, what is pending is what differs between wanted and observed", arguments: 1...50 as ClosedRange<UInt64>)
  func definition(seed: UInt64) {
    var generator = SeededGenerator(state: seed)
    var map = DeltaMap<Int, Int>()
    var wanted: [Int: Int] = [:]
    var observed: [Int: Int] = [:]
    for _ in 0..<400 {
      let key = Int.random(in: 0..<8, using: &generator)
      let value: Int? = Bool.random(using: &generator) ? Int.random(in: 0..<3, using: &generator) : nil
      switch Int.random(in: 0..<20, using: &generator) {
      case 0:
        observed = Dictionary(uniqueKeysWithValues: (0..<key).map { ($0, Int.random(in: 0..<3, using: &generator)) })
        map.observeAll(observed)
      case 1:
        wanted = Dictionary(uniqueKeysWithValues: (0..<key).map { ($0, Int.random(in: 0..<3, using: &generator)) })
        map.wantAll(wanted)
      case 2..<11:
        wanted[key] = value
        map.want(value, for: key)
      default:
        observed[key] = value
        map.observe(value, for: key)
      }
      #expect(map.updateKeys == Set(wanted.filter { observed[$0.key] != $0.value }.keys))
      #expect(map.deletionKeys == Set(observed.keys).subtracting(wanted.keys))
    }
  }

  @Test("Doing what is pending settles it")
  func settles() {
    var map = DeltaMap<Int, String>()
    map.observeAll([1: "a", 2: "b", 3: "c"])
    map.wantAll([2: "b", 3: "x", 4: "d"])
    #expect(map.pendingUpdates.map(\.key).sorted() == [3, 4])
    #expect(map.pendingDeletions.map(\.value) == ["a"])
    for (key, value) in map.pendingUpdates { map.observe(value, for: key) }
    for (key, _) in map.pendingDeletions { map.observe(nil, for: key) }
    #expect(map.isSettled)
    #expect(map.observed == map.wanted)
  }

  @Test("A wanted value may leave something open")
  func satisfied() {
    var map = DeltaMap<Int, Int?> { wanted, observed in wanted == nil || wanted == observed }
    map.observe(7, for: 1)
    map.want(.some(nil), for: 1)
    #expect(map.isSettled)
    map.want(8, for: 1)
    #expect(map.updateKeys == [1])
  }
}
