/// Files into one tar archive (POSIX.1-2001's ustar form), in memory.

struct TarArchive {
  private(set) var octets: [UInt8] = []
  private let time: Int64

  init(time: Int64) { self.time = time }

  /// `name` is relative, at most 100 octets.
  mutating func add(_ name: String, _ content: [UInt8]) {
    precondition(name.utf8.count <= 100, "a name in this archive fits into its field")
    var header = [UInt8](repeating: 0, count: 512)
    func put(_ text: String, _ offset: Int) { for (index, octet) in text.utf8.enumerated() { header[offset + index] = octet } }
    func octal(_ number: Int64, _ digits: Int) -> String {
      let text = String(number, radix: 8)
      return String(repeating: "0", count: max(0, digits - text.count)) + text
    }
    put(name, 0)
    put("0000600", 100)
    put("0000000", 108)
    put("0000000", 116)
    put(octal(Int64(content.count), 11), 124)
    put(octal(time, 11), 136)
    put("        ", 148)
    put("0", 156)
    put("ustar", 257)
    put("00", 263)
    // The sum of the header with blanks in the place of the sum.
    let sum = header.reduce(0) { $0 + Int64($1) }
    put(octal(sum, 6), 148)
    header[154] = 0
    octets += header + content + [UInt8](repeating: 0, count: (512 - content.count % 512) % 512)
  }

  /// Two empty blocks end an archive.
  var finished: [UInt8] { octets + [UInt8](repeating: 0, count: 1024) }
}
