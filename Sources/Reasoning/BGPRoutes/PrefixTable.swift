/// Prefix → entry number. The routing table looks up every prefix of every UPDATE here, so this is an open-addressing table of
/// 32-bit numbers beside the caller's contiguous array of entries, with a hash of a few multiplications.
///
/// Hazards: the hash is not cryptographic. It is seeded, and only configured neighbours can insert, so a crafted set of prefixes
/// costs its sender's own host at most a slow table, never an inconsistent one.

import Addresses
import BGPMessages

struct PrefixTable: Sendable {
  /// -1: never used; -2: removed; else an entry number.
  private var slots: [Int32]
  private var mask: Int
  private(set) var count = 0
  private var tombs = 0
  private let seed: UInt64

  init(seed: UInt64 = 0x9e37_79b9_7f4a_7c15) {
    self.seed = seed
    slots = Array(repeating: -1, count: 16)
    mask = 15
  }

  private func start(_ prefix: NLRI) -> Int {
    let a = prefix.high ^ prefix.low &* 0xff51_afd7_ed55_8ccd
    let b = UInt64(prefix.length) << 1 | (prefix.family == .v4 ? 0 : 1)
    let wide = (a ^ seed).multipliedFullWidth(by: 0xc2b2_ae3d_27d4_eb4f &+ b &* 0x1656_67b1_9e37_79f8)
    return Int(truncatingIfNeeded: wide.high ^ wide.low) & mask
  }

  /// The entry of `prefix`; `prefixOf` reads the prefix of an entry.
  func find(_ prefix: NLRI, prefixOf: (Int32) -> NLRI) -> Int32? {
    var slot = start(prefix)
    while true {
      let entry = slots[slot]
      if entry == -1 { return nil }
      if entry >= 0, prefixOf(entry) == prefix { return entry }
      slot = (slot + 1) & mask
    }
  }

  /// Adds a prefix that is not in the table.
  mutating func insert(_ prefix: NLRI, entry: Int32, prefixOf: (Int32) -> NLRI) {
    if (count + tombs + 1) * 4 > slots.count * 3 { rebuild(prefixOf: prefixOf) }
    place(prefix, entry)
    count += 1
  }

  private mutating func place(_ prefix: NLRI, _ entry: Int32) {
    var slot = start(prefix)
    while slots[slot] >= 0 { slot = (slot + 1) & mask }
    if slots[slot] == -2 { tombs -= 1 }
    slots[slot] = entry
  }

  mutating func remove(_ prefix: NLRI, prefixOf: (Int32) -> NLRI) {
    var slot = start(prefix)
    while true {
      let entry = slots[slot]
      if entry == -1 { return }
      if entry >= 0, prefixOf(entry) == prefix {
        // A tomb is needed only where a probe may have to pass.
        if slots[(slot + 1) & mask] == -1 {
          slots[slot] = -1
        } else {
          slots[slot] = -2
          tombs += 1
        }
        count -= 1
        return
      }
      slot = (slot + 1) & mask
    }
  }

  private mutating func rebuild(prefixOf: (Int32) -> NLRI) {
    let old = slots
    var size = 16
    while size < (count + 1) * 2 { size *= 2 }
    slots = Array(repeating: -1, count: size)
    mask = size - 1
    tombs = 0
    for entry in old where entry >= 0 { place(prefixOf(entry), entry) }
  }
}
