import react from '@vitejs/plugin-react';
const target = process.env.PROM || 'http://127.0.0.1:9190';
export default { plugins:[react()], build:{sourcemap:false,minify:false,chunkSizeWarningLimit:99999}, define:{'process.env.NODE_ENV':'"production"'},
 server:{host:'127.0.0.1',proxy:{'/api/v1':target}}, preview:{host:'127.0.0.1',port:Number(process.env.PORT)||4173,proxy:{'/api/v1':target}} };
