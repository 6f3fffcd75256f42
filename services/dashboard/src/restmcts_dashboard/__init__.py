"""The dashboard: runs, trees and failures in a browser."""
