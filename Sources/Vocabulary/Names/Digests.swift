/// SHA-1, SHA-224 and SHA-256 (FIPS 180-4): Calico derives identifiers and interface names from them, and nothing secret.
///
/// Our own, because what imports `Names` (the CNI client, the pure modules) must not pull in a crypto library to name an interface.

public enum SHA1 {
  /// The 20 octets of the digest.
  public static func digest(of message: some Sequence<UInt8>) -> [UInt8] {
    var state: [UInt32] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0]
    var words = [UInt32](repeating: 0, count: 80)
    forEachBlock(of: message) { block in
      loadWords(of: block, into: &words)
      for index in 16..<80 {
        words[index] = (words[index - 3] ^ words[index - 8] ^ words[index - 14] ^ words[index - 16]).rotated(left: 1)
      }
      var (a, b, c, d, e) = (state[0], state[1], state[2], state[3], state[4])
      for index in 0..<80 {
        let (mix, constant): (UInt32, UInt32) =
          switch index {
          case 0..<20: (b & c | ~b & d, 0x5a82_7999)
          case 20..<40: (b ^ c ^ d, 0x6ed9_eba1)
          case 40..<60: (b & c | b & d | c & d, 0x8f1b_bcdc)
          default: (b ^ c ^ d, 0xca62_c1d6)
          }
        let next = a.rotated(left: 5) &+ mix &+ e &+ constant &+ words[index]
        (a, b, c, d, e) = (next, a, b.rotated(left: 30), c, d)
      }
      for (index, value) in [a, b, c, d, e].enumerated() { state[index] &+= value }
    }
    return octets(of: state)
  }
}

public enum SHA256 {
  /// The 32 octets of the digest.
  public static func digest(of message: some Sequence<UInt8>) -> [UInt8] {
    octets(
      of: sha2(
        message,
        initial: [
          0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
        ]))
  }
}

public enum SHA224 {
  /// The 28 octets of the digest.
  public static func digest(of message: some Sequence<UInt8>) -> [UInt8] {
    octets(
      of: sha2(
        message,
        initial: [
          0xc105_9ed8, 0x367c_d507, 0x3070_dd17, 0xf70e_5939, 0xffc0_0b31, 0x6858_1511, 0x64f9_8fa7, 0xbefa_4fa4,
        ]
      ).dropLast())
  }
}

/// FIPS 180-4, section 4.2.2.
private let sha2Constants: [UInt32] = [
  0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
  0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
  0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
  0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
  0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
  0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
  0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
  0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
]

private func sha2(_ message: some Sequence<UInt8>, initial: [UInt32]) -> [UInt32] {
  var state = initial
  var words = [UInt32](repeating: 0, count: 64)
  forEachBlock(of: message) { block in
    loadWords(of: block, into: &words)
    for index in 16..<64 {
      let (near, far) = (words[index - 2], words[index - 15])
      let sigma1 = near.rotated(left: 15) ^ near.rotated(left: 13) ^ near >> 10
      let sigma0 = far.rotated(left: 25) ^ far.rotated(left: 14) ^ far >> 3
      words[index] = sigma1 &+ words[index - 7] &+ sigma0 &+ words[index - 16]
    }
    var (a, b, c, d) = (state[0], state[1], state[2], state[3])
    var (e, f, g, h) = (state[4], state[5], state[6], state[7])
    for index in 0..<64 {
      let sum1 = e.rotated(left: 26) ^ e.rotated(left: 21) ^ e.rotated(left: 7)
      let choice = e & f ^ ~e & g
      let first = h &+ sum1 &+ choice &+ sha2Constants[index] &+ words[index]
      let sum0 = a.rotated(left: 30) ^ a.rotated(left: 19) ^ a.rotated(left: 10)
      let majority = a & b ^ a & c ^ b & c
      (h, g, f, e, d, c, b, a) = (g, f, e, d &+ first, c, b, a, first &+ sum0 &+ majority)
    }
    for (index, value) in [a, b, c, d, e, f, g, h].enumerated() { state[index] &+= value }
  }
  return state
}

/// Pads the message (FIPS 180-4, section 5.1.1) and hands out its blocks of 64 octets.
private func forEachBlock(of message: some Sequence<UInt8>, _ body: (ArraySlice<UInt8>) -> Void) {
  var padded = Array(message)
  let bitCount = UInt64(padded.count) * 8
  padded.append(0x80)
  padded.append(contentsOf: repeatElement(0, count: (120 - padded.count % 64) % 64))
  for shift in stride(from: UInt64(56), through: 0, by: -8) { padded.append(UInt8(truncatingIfNeeded: bitCount >> shift)) }
  for start in stride(from: 0, to: padded.count, by: 64) { body(padded[start..<(start + 64)]) }
}

private func loadWords(of block: ArraySlice<UInt8>, into words: inout [UInt32]) {
  for index in 0..<16 {
    let start = block.startIndex + 4 * index
    words[index] = UInt32(block[start]) << 24 | UInt32(block[start + 1]) << 16 | UInt32(block[start + 2]) << 8 | UInt32(block[start + 3])
  }
}

private func octets(of words: some Sequence<UInt32>) -> [UInt8] {
  words.flatMap { word in [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: word >> $0) } }
}

extension UInt32 {
  fileprivate func rotated(left count: UInt32) -> UInt32 { self << count | self >> (32 - count) }
}
