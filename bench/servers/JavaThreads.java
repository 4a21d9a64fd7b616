// The server in Java: a thread and a buffer per connection, blocking streams. The virtual machine raises the descriptor
// limit by itself.

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;

final class JavaThreads {
    private static void echo(Socket connection) {
        try (connection) {
            connection.setTcpNoDelay(true);
            var input = connection.getInputStream();
            var output = connection.getOutputStream();
            var buffer = new byte[16 * 1024];
            for (int size = input.read(buffer); size >= 0; size = input.read(buffer)) output.write(buffer, 0, size);
        } catch (IOException reset) {
            // By the peer: it ends that connection.
        }
    }

    public static void main(String[] arguments) throws IOException {
        String host = "127.0.0.1";
        int port = 0;
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            if (arguments[i].equals("--host")) host = arguments[i + 1];
            if (arguments[i].equals("--port")) port = Integer.parseInt(arguments[i + 1]);
        }
        try (var listener = new ServerSocket(port, 4096, InetAddress.getByName(host))) {
            System.out.println("listening on " + host + ":" + port);
            for (;;) {
                Socket connection = listener.accept();
                try {
                    new Thread(() -> echo(connection)).start();
                } catch (OutOfMemoryError noThread) {
                    connection.close();
                }
            }
        }
    }
}
