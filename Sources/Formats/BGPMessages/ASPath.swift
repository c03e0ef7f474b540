/// AS_PATH in one contiguous array, because a reflector stores and compares very many of them.

/// The autonomous systems that a route has passed, nearest first (RFC 4271, section 5.1.2; RFC 5065).
@frozen
public struct ASPath: Hashable, Sendable {
  public enum SegmentKind: UInt8, Sendable {
    case set = 1
    case sequence = 2
    case confederationSequence = 3
    case confederationSet = 4
    public var isConfederation: Bool { self == .confederationSequence || self == .confederationSet }
  }
  public struct Segment: Hashable, Sendable {
    public var kind: SegmentKind
    /// 1...255 numbers.
    public var numbers: [ASNumber]
    public init(_ kind: SegmentKind, _ numbers: [ASNumber]) {
      self.kind = kind
      self.numbers = numbers
    }
  }

  /// Each segment is one word `kind << 8 | count`, followed by `count` numbers.
  @usableFromInline var words: [UInt32]

  /// The path of a route that originates here.
  public init() { words = [] }
  /// A single sequence.
  public init(_ numbers: [ASNumber]) { self.init(segments: numbers.isEmpty ? [] : [Segment(.sequence, numbers)]) }
  /// Segments of more than 255 numbers are split.
  public init(segments: [Segment]) {
    words = []
    for segment in segments {
      var rest = segment.numbers[...]
      while !rest.isEmpty {
        let part = rest.prefix(255)
        rest = rest.dropFirst(255)
        words.append(UInt32(segment.kind.rawValue) << 8 | UInt32(part.count))
        words += part.lazy.map(\.rawValue)
      }
    }
  }
  init(words: [UInt32]) { self.words = words }

  public var isEmpty: Bool { words.isEmpty }
  public var segments: [Segment] {
    var result: [Segment] = []
    forEachSegment { kind, range in result.append(Segment(kind, words[range].map { ASNumber($0) })) }
    return result
  }

  /// Calls `body` with the kind of each segment and where its numbers stand in `words`.
  @inline(__always)
  func forEachSegment(_ body: (SegmentKind, Range<Int>) -> Void) {
    var at = 0
    while at < words.count {
      let count = Int(words[at] & 0xff)
      // Only the initialisers and the decoder write `words`, and they write the four kinds.
      body(SegmentKind(rawValue: UInt8(truncatingIfNeeded: words[at] >> 8)) ?? .sequence, (at + 1)..<(at + 1 + count))
      at += 1 + count
    }
  }

  /// The length for the decision process: a set counts one (RFC 4271, section 9.1.2.2 (a)), confederation segments count nothing
  /// (RFC 5065, section 5.3).
  public var length: Int {
    var total = 0
    forEachSegment { kind, range in
      switch kind {
      case .sequence: total += range.count
      case .set: total += 1
      case .confederationSequence, .confederationSet: break
      }
    }
    return total
  }
  /// The neighbour from which the route came: the first number, if the path begins with a sequence. Confederation segments are passed by.
  public var neighborAS: ASNumber? {
    var at = 0
    while at < words.count {
      let kind = words[at] >> 8
      if kind == 2 { return ASNumber(words[at + 1]) }
      if kind == 1 { return nil }
      at += 1 + Int(words[at] & 0xff)
    }
    return nil
  }
  /// The AS where the route began, if the path ends in a sequence.
  public var originAS: ASNumber? {
    var result: ASNumber?
    forEachSegment { kind, range in result = kind == .sequence ? ASNumber(words[range.upperBound - 1]) : nil }
    return result
  }
  public func contains(_ number: ASNumber) -> Bool { occurrences(of: number) > 0 }
  /// How often the number stands in the path, in segments of any kind.
  public func occurrences(of number: ASNumber) -> Int {
    var total = 0
    forEachSegment { _, range in
      for index in range where words[index] == number.rawValue { total += 1 }
    }
    return total
  }
  public var hasConfederationSegments: Bool {
    var found = false
    forEachSegment { kind, _ in found = found || kind.isConfederation }
    return found
  }
  var hasZero: Bool { contains(ASNumber(0)) }
  /// True if a number outside of confederation segments needs four octets.
  var needsFourOctets: Bool {
    var found = false
    forEachSegment { kind, range in
      if !kind.isConfederation { found = found || words[range].contains { $0 > 0xffff } }
    }
    return found
  }

  /// Puts `number` in front, `count` times (RFC 4271, section 5.1.2 (b)).
  public mutating func prepend(_ number: ASNumber, count: Int = 1) {
    var left = count
    while left > 0 {
      if let head = words.first, head >> 8 == UInt32(SegmentKind.sequence.rawValue), head & 0xff < 255 {
        let added = min(left, 255 - Int(head & 0xff))
        words[0] = head + UInt32(added)
        words.insert(contentsOf: repeatElement(number.rawValue, count: added), at: 1)
        left -= added
      } else {
        words.insert(UInt32(SegmentKind.sequence.rawValue) << 8, at: 0)
      }
    }
  }
  public func prepending(_ number: ASNumber, count: Int = 1) -> ASPath {
    var path = self
    path.prepend(number, count: count)
    return path
  }
  /// Without confederation segments, as an external peer must see it (RFC 5065, section 4.1 (c)).
  public func withoutConfederation() -> ASPath { ASPath(segments: segments.filter { !$0.kind.isConfederation }) }
}

extension ASPath {
  /// Reads the segments in `range` of `octets`, or says what RFC 7606, section 7.2, calls malformed.
  static func decode(_ octets: Span<UInt8>, _ range: Range<Int>, fourOctet: Bool) -> Result<ASPath, Malformed> {
    var words: [UInt32] = []
    let width = fourOctet ? 4 : 2
    words.reserveCapacity(range.count / width + 1)
    var at = range.lowerBound
    while at < range.upperBound {
      guard range.upperBound - at >= 2 else { return .failure(Malformed("one octet is left after the last segment")) }
      let kind = octets[at]
      let count = Int(octets[at + 1])
      at += 2
      guard SegmentKind(rawValue: kind) != nil else { return .failure(Malformed("segment type \(kind)")) }
      guard count > 0 else { return .failure(Malformed("a segment of no numbers")) }
      guard range.upperBound - at >= count * width else { return .failure(Malformed("a segment is longer than the attribute")) }
      words.append(UInt32(kind) << 8 | UInt32(count))
      for _ in 0..<count {
        var number: UInt32 = 0
        for index in at..<(at + width) { number = number << 8 | UInt32(octets[index]) }
        words.append(number)
        at += width
      }
    }
    return .success(ASPath(words: words))
  }
  struct Malformed: Error {
    let reason: String
    init(_ reason: String) { self.reason = reason }
  }

  func encode(into octets: inout [UInt8], fourOctet: Bool) {
    forEachSegment { kind, range in
      octets.append(kind.rawValue)
      octets.append(UInt8(range.count))
      for word in words[range] {
        if fourOctet { octets.append32(word) } else { octets.append16(ASNumber(word).twoOctets) }
      }
    }
  }
  func encodedCount(fourOctet: Bool) -> Int {
    var total = 0
    forEachSegment { _, range in total += 2 + range.count * (fourOctet ? 4 : 2) }
    return total
  }

  /// The path behind a speaker of two-octet numbers: what AS4_PATH knows replaces the tail (RFC 6793, section 4.2.3).
  func merged(withAS4Path tail: ASPath) -> ASPath {
    let tail = tail.withoutConfederation()
    // AS4_PATH longer than AS_PATH cannot belong to it, and is ignored.
    guard !tail.isEmpty, countedNumbers >= tail.countedNumbers else { return self }
    var lead = countedNumbers - tail.countedNumbers
    var result: [Segment] = []
    for segment in segments {
      if segment.kind.isConfederation {
        if lead > 0 { result.append(segment) }
        continue
      }
      guard lead > 0 else { break }
      if segment.kind == .set {
        result.append(segment)
        lead -= 1
      } else {
        result.append(Segment(.sequence, Array(segment.numbers.prefix(lead))))
        lead -= min(lead, segment.numbers.count)
      }
    }
    for segment in tail.segments {
      if let last = result.last, last.kind == .sequence, segment.kind == .sequence, last.numbers.count + segment.numbers.count <= 255 {
        result[result.count - 1].numbers += segment.numbers
      } else {
        result.append(segment)
      }
    }
    return ASPath(segments: result)
  }
  /// Numbers as RFC 6793 counts them, by the method of RFC 4271, section 9.1.2.2, and RFC 5065, section 5.3.
  private var countedNumbers: Int { length }
}

extension ASPath: CustomStringConvertible {
  /// Sets in braces, confederation segments in parentheses: "65001 65002 {65003 65004}".
  public var description: String {
    segments.map { segment in
      let numbers = segment.numbers.map(\.description).joined(separator: " ")
      return switch segment.kind {
      case .sequence: numbers
      case .set: "{\(numbers)}"
      case .confederationSequence: "(\(numbers))"
      case .confederationSet: "({\(numbers)})"
      }
    }.joined(separator: " ")
  }
}
