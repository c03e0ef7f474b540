/// A moment in UTC and its RFC 3339 text, as documents and logs carry it.
import Glibc

public struct UTCTime: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// Seconds since 1970-01-01T00:00:00Z.
  public let unixSeconds: Int64
  /// 0..<1_000_000_000
  public let nanoseconds: UInt32
  public init(unixSeconds: Int64, nanoseconds: UInt32 = 0) {
    precondition(nanoseconds < 1_000_000_000, "nanoseconds stay below one second")
    self.unixSeconds = unixSeconds
    self.nanoseconds = nanoseconds
  }
  /// The wall clock. Only the rim asks it: pure modules take time as an input.
  public static func now() -> UTCTime {
    var time = timespec()
    unsafe clock_gettime(CLOCK_REALTIME, &time)
    return UTCTime(unixSeconds: Int64(time.tv_sec), nanoseconds: UInt32(time.tv_nsec))
  }
  public static func < (a: Self, b: Self) -> Bool { (a.unixSeconds, a.nanoseconds) < (b.unixSeconds, b.nanoseconds) }

  /// To the second: `2026-01-01T00:00:00Z`, the form of `creationTimestamp`.
  public var text: String {
    let (day, second) = unixSeconds.flooredDivision(by: 86400)
    let (year, month, dayOfMonth) = Self.civil(day: day)
    func two(_ number: Int64) -> String { number < 10 ? "0\(number)" : "\(number)" }
    let yearText = String(repeating: "0", count: max(0, 4 - "\(year)".count)) + "\(year)"
    return "\(yearText)-\(two(month))-\(two(dayOfMonth))T\(two(second / 3600)):\(two(second / 60 % 60)):\(two(second % 60))Z"
  }
  /// With the fraction, if there is one: `2026-01-01T00:00:00.25Z`.
  public var description: String {
    if nanoseconds == 0 { return text }
    var digits = "\(nanoseconds)"
    digits = String(repeating: "0", count: 9 - digits.count) + digits
    while digits.last == "0" { digits.removeLast() }
    return "\(text.dropLast()).\(digits)Z"
  }

  /// RFC 3339, section 5.6, with any offset from UTC; leap seconds count as the second after.
  public init?(_ text: some StringProtocol) {
    let bytes = Array(text.utf8)
    func number(_ start: Int, _ count: Int) -> Int64? {
      guard start + count <= bytes.count else { return nil }
      var value: Int64 = 0
      for byte in bytes[start..<(start + count)] {
        guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
        value = value * 10 + Int64(byte - UInt8(ascii: "0"))
      }
      return value
    }
    guard bytes.count >= 20, let year = number(0, 4), bytes[4] == UInt8(ascii: "-"), let month = number(5, 2),
      bytes[7] == UInt8(ascii: "-"),
      let dayOfMonth = number(8, 2), bytes[10] | 0x20 == UInt8(ascii: "t"), let hour = number(11, 2), bytes[13] == UInt8(ascii: ":"),
      let minute = number(14, 2), bytes[16] == UInt8(ascii: ":"), let second = number(17, 2),
      (1...12).contains(month), hour < 24, minute < 60, second <= 60
    else { return nil }
    let day = Self.day(year: year, month: month, dayOfMonth: dayOfMonth)
    guard dayOfMonth >= 1, Self.civil(day: day) == (year, month, dayOfMonth) else { return nil }
    var index = 19
    var fraction: UInt32 = 0
    if bytes[index] == UInt8(ascii: ".") {
      index += 1
      let first = index
      var unit: UInt32 = 100_000_000
      while index < bytes.count, let digit = number(index, 1) {
        fraction += UInt32(digit) * unit
        unit /= 10
        index += 1
      }
      if index == first { return nil }
    }
    guard index < bytes.count else { return nil }
    var offset: Int64 = 0
    if bytes[index] | 0x20 == UInt8(ascii: "z") {
      guard index + 1 == bytes.count else { return nil }
    } else {
      guard bytes[index] == UInt8(ascii: "+") || bytes[index] == UInt8(ascii: "-"), index + 6 == bytes.count,
        bytes[index + 3] == UInt8(ascii: ":"), let hours = number(index + 1, 2), let minutes = number(index + 4, 2), hours < 24,
        minutes < 60
      else { return nil }
      offset = (hours * 60 + minutes) * (bytes[index] == UInt8(ascii: "+") ? 60 : -60)
    }
    let unixSeconds = day * 86400 + hour * 3600 + minute * 60 + second - offset
    // An offset may lead out of the four digits that a year has.
    guard (-62_167_219_200...253_402_300_799).contains(unixSeconds) else { return nil }
    self.init(unixSeconds: unixSeconds, nanoseconds: fraction)
  }

  // Years begin in March here, so that the leap day is the last day of a year and months need no table.
  private static func day(year: Int64, month: Int64, dayOfMonth: Int64) -> Int64 {
    let marchYear = month <= 2 ? year - 1 : year
    let (era, yearOfEra) = marchYear.flooredDivision(by: 400)
    let dayOfYear = (153 * ((month + 9) % 12) + 2) / 5 + dayOfMonth - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
  }
  private static func civil(day: Int64) -> (year: Int64, month: Int64, dayOfMonth: Int64) {
    let (era, dayOfEra) = (day + 719_468).flooredDivision(by: 146_097)
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let marchMonth = (5 * dayOfYear + 2) / 153
    let month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
    return (era * 400 + yearOfEra + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * marchMonth + 2) / 5 + 1)
  }
}

extension Int64 {
  /// Quotient rounded down and a remainder that is never negative.
  fileprivate func flooredDivision(by divisor: Int64) -> (quotient: Int64, remainder: Int64) {
    let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
    return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
  }
}
