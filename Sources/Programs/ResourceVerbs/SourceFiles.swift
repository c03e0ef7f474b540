/// Where documents come from: files, directories, standard input.
import Glibc
import Sockets

public struct SourceFiles: Sendable {
  /// As given by `-f`, in order; `-` is standard input.
  public var words: [String]
  /// Directories with all that is below them.
  public var isRecursive: Bool
  public init(_ words: [String], isRecursive: Bool = false) {
    self.words = words
    self.isRecursive = isRecursive
  }

  /// One word of `-f` and the files that it stands for.
  public struct Source: Hashable, Sendable {
    public let word: String
    public let files: [String]
    public let isDirectory: Bool
  }

  static let endings = [".yaml", ".yml", ".json"]

  public func expand() throws(SystemError) -> [Source] {
    var sources: [Source] = []
    for word in words {
      if word != "-", try FileStatus(of: word).isDirectory {
        sources.append(Source(word: word, files: try Self.files(in: word, isRecursive), isDirectory: true))
      } else {
        sources.append(Source(word: word, files: [word], isDirectory: false))
      }
    }
    return sources
  }

  /// In order of names. Hidden files are left out: editors keep unfinished copies there. Links to files are followed, links to directories
  /// are not, so that the way down has an end.
  private static func files(in directory: String, _ isRecursive: Bool) throws(SystemError) -> [String] {
    var files: [String] = []
    for name in try names(in: directory) where !name.hasPrefix(".") {
      let path = directory.hasSuffix("/") ? directory + name : "\(directory)/\(name)"
      if try FileStatus(ofLink: path).isDirectory {
        if isRecursive { files += try self.files(in: path, true) }
      } else if endings.contains(where: name.hasSuffix) {
        files.append(path)
      }
    }
    return files
  }

  private static func names(in directory: String) throws(SystemError) -> [String] {
    guard let stream = unsafe opendir(directory) else { throw SystemError.last("open \(directory)") }
    defer { unsafe closedir(stream) }
    var names: [String] = []
    while let entry = unsafe readdir(stream) {
      // The name ends in a zero within the 256 octets of d_name.
      let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }
}

private struct FileStatus {
  let isDirectory: Bool
  init(of path: String) throws(SystemError) {
    var status = stat()
    try unsafe check(stat(path, &status), "open \(path)")
    isDirectory = status.st_mode & S_IFMT == S_IFDIR
  }
  /// Of a link itself, not of what it leads to.
  init(ofLink path: String) throws(SystemError) {
    var status = stat()
    try unsafe check(lstat(path, &status), "open \(path)")
    isDirectory = status.st_mode & S_IFMT == S_IFDIR
  }
}
